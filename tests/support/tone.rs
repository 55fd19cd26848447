//! Tones in WAV files: written for baresip to play, found again in what it recorded (Goertzel's filter).

use std::f64::consts::TAU;
use std::path::Path;

/// Writes `seconds` of a sine at half of full scale: mono, 16 bit, 8 kHz.
pub fn write(path: &Path, hertz: f64, seconds: usize) {
    let samples: Vec<u8> = (0..seconds * 8000)
        .map(|n| ((TAU * hertz * n as f64 / 8000.0).sin() * 16_000.0) as i16)
        .flat_map(i16::to_le_bytes)
        .collect();
    std::fs::write(path, [header(samples.len()), samples].concat()).expect("the tone's file");
}

fn header(bytes: usize) -> Vec<u8> {
    let bytes = u32::try_from(bytes).expect("a short file");
    let mut head = Vec::new();
    head.extend(b"RIFF");
    head.extend((36 + bytes).to_le_bytes());
    head.extend(b"WAVEfmt ");
    head.extend(16_u32.to_le_bytes());
    for word in [1_u16, 1] {
        head.extend(word.to_le_bytes());
    }
    head.extend(8000_u32.to_le_bytes());
    head.extend(16_000_u32.to_le_bytes());
    for word in [2_u16, 16] {
        head.extend(word.to_le_bytes());
    }
    head.extend(b"data");
    head.extend(bytes.to_le_bytes());
    head
}

/// A recording: its rate and its samples, channels mixed.
pub struct Recording {
    pub rate: u32,
    pub samples: Vec<i16>,
}

/// Reads a 16 bit WAV file, even one whose writer is not done (its data then reaches to the end of the file).
pub fn read(path: &Path) -> Option<Recording> {
    let bytes = std::fs::read(path).ok()?;
    let word = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let long = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let (mut at, mut rate, mut channels) = (12, 0, 1);
    loop {
        let size = usize::try_from(long(at + 4)?).ok()?;
        match bytes.get(at..at + 4)? {
            b"fmt " => (channels, rate) = (usize::from(word(at + 10)?).max(1), long(at + 12)?),
            b"data" => break,
            _ => {}
        }
        at += 8 + size + size % 2;
    }
    let frames = bytes.get(at + 8..)?.chunks_exact(2 * channels);
    let samples = frames.map(|frame| i16::from_le_bytes([frame[0], frame[1]])).collect();
    Some(Recording { rate, samples })
}

impl Recording {
    /// The share of the energy that lies at this frequency, 0 to 1, over the loudest whole seconds' worth of sound.
    pub fn share(&self, hertz: f64) -> f64 {
        let loud = self.samples.iter().position(|s| s.unsigned_abs() > 500).unwrap_or(0);
        let sound = &self.samples[loud..];
        let sound = &sound[..sound.len().min(self.rate as usize)];
        let energy: f64 = sound.iter().map(|s| f64::from(*s).powi(2)).sum();
        if energy < 1.0 || sound.len() < 800 {
            return 0.0;
        }
        let turn = 2.0 * (TAU * hertz / f64::from(self.rate)).cos();
        let (a, b) = sound.iter().fold((0.0, 0.0), |(a, b), s| (f64::from(*s) + turn * a - b, a));
        (a * a + b * b - turn * a * b) / (energy * sound.len() as f64 / 2.0)
    }

    /// Seconds of sound above the noise.
    pub fn seconds_of_sound(&self) -> f64 {
        self.samples.iter().filter(|s| s.unsigned_abs() > 500).count() as f64 / f64::from(self.rate.max(1))
    }
}
