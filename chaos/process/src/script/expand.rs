//! Faults drawn from a seed: one after the other, each over before the next begins, each of a kind that can be undone.

use super::{Direction, Fault, Step, Target};
use serde_saphyr::Spanned;

/// Numbers from a seed; the same in each run.
struct Choices(u64);

impl Choices {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound.max(1)
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        let at = self.below(u64::try_from(all.len()).unwrap_or(1));
        all.get(usize::try_from(at).unwrap_or(0)).copied()
    }
}

const KINDS: [Fault; 9] = [
    Fault::KillWorker,
    Fault::KillGuard,
    Fault::Pause,
    Fault::Partition,
    Fault::OneWay,
    Fault::Link,
    Fault::DiskFull,
    Fault::SlowDisk,
    Fault::ClockJump,
];
const TARGETS: [Target; 6] =
    [Target::N1, Target::N2, Target::N3, Target::Leader, Target::Follower, Target::Owner];

/// Puts drawn steps in the place of each random one.
pub(super) fn draw(steps: &mut Vec<Spanned<Step>>, seed: u64) {
    let mut choices = Choices(seed);
    let random: Vec<Spanned<Step>> = steps.extract_if(.., |step| step.value.fault == Fault::Random).collect();
    for step in random {
        let count = step.value.faults.unwrap_or(1);
        let each_s = step.value.for_s / f64::from(count);
        for number in 0..count {
            let value = drawn(&mut choices, step.value.at_s + each_s * f64::from(number), each_s);
            steps.push(Spanned { value, ..step.clone() });
        }
    }
}

/// One fault that is over after a third of its time, so that the node can come back in the rest.
fn drawn(choices: &mut Choices, at_s: f64, each_s: f64) -> Step {
    let fault = choices.of(&KINDS).unwrap_or(Fault::KillWorker);
    let node = choices.of(&TARGETS);
    let direction = choices.of(&[Direction::In, Direction::Out]);
    // Links as long as there are on one continent, and disks that are slow for a disk.
    let (late_ms, slow_ms) = (10 + choices.below(70), 100 + choices.below(300));
    let delay_ms = u32::try_from(if fault == Fault::SlowDisk { slow_ms } else { late_ms }).ok();
    let loss_percent = u32::try_from(choices.below(5)).ok();
    let by_s = choices.of(&[-7_200, -60, 60, 7_200]);
    let of = |wanted: &[Fault]| wanted.contains(&fault);
    Step {
        at_s,
        fault,
        for_s: each_s / 3.0,
        node,
        site: None,
        direction: direction.filter(|_| of(&[Fault::OneWay])),
        delay_ms: delay_ms.filter(|_| of(&[Fault::Link, Fault::SlowDisk])),
        loss_percent: loss_percent.filter(|_| of(&[Fault::Link])),
        rate_kbit: None,
        by_s: by_s.filter(|_| of(&[Fault::ClockJump])),
        per_second: None,
        faults: None,
    }
}
