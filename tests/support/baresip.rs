//! baresip as the phone, with real sound: it plays a tone from a file and records what it hears. Headless: no stdio
//! module, controlled over TCP by JSON in netstrings.

use super::demo::Account;
use super::{SOON, eventually, scratch, tone};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const CONTROL_PORT: u16 = 4444;

pub struct Baresip {
    child: Child,
    dir: PathBuf,
    host: Ipv4Addr,
}

impl Baresip {
    /// A phone at `host` that registers at `server`, answers by itself and says the tone.
    pub fn start(account: &Account, host: Ipv4Addr, server: SocketAddrV4, hertz: f64) -> Baresip {
        let dir = scratch(&format!("baresip-{}", host.to_string().replace('.', "-")));
        tone::write(&dir.join("tone.wav"), hertz, 60);
        std::fs::write(dir.join("config"), config(host, &dir)).expect("baresip's config");
        let line = format!(
            "<sip:{number}@{domain}>;auth_user={number};auth_pass={password};outbound=\"sip:{server};transport=udp\";\
             regint=60;answermode=auto;audio_codecs=PCMU/8000/1\n",
            number = account.number,
            domain = account.domain,
            password = account.password,
        );
        std::fs::write(dir.join("accounts"), line).expect("baresip's account");
        std::fs::write(dir.join("contacts"), "").expect("baresip's contacts");
        let log = std::fs::File::create(dir.join("baresip.log")).expect("a log");
        let child = Command::new("baresip")
            .arg("-f")
            .arg(&dir)
            .current_dir(&dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("baresip is installed: deploy/install/phones.sh");
        let phone = Baresip { child, dir, host };
        eventually(SOON, "baresip's control port", || phone.connect());
        phone
    }

    fn connect(&self) -> Option<TcpStream> {
        TcpStream::connect_timeout(
            &SocketAddrV4::new(self.host, CONTROL_PORT).into(),
            Duration::from_millis(200),
        )
        .ok()
    }

    /// Gives a command; its reply is in the log as well.
    pub fn command(&self, command: &str, parameters: &str) {
        let mut stream = self.connect().expect("baresip's control port");
        let json = serde_json::json!({ "command": command, "params": parameters, "token": "t" }).to_string();
        write!(stream, "{}:{json},", json.len()).expect("baresip takes a command");
        stream.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout");
        let mut reply = [0_u8; 4096];
        let _ = stream.read(&mut reply);
    }

    /// Calls an extension.
    pub fn dial(&self, to: &Account) {
        self.command("dial", &format!("sip:{}@{}", to.number, to.domain));
    }

    pub fn hang_up(&self) {
        self.command("hangup", "");
    }

    /// What this phone heard, so far.
    pub fn heard(&self) -> Option<tone::Recording> {
        let files = std::fs::read_dir(&self.dir).ok()?.flatten().map(|entry| entry.path());
        let mut heard: Vec<PathBuf> =
            files.filter(|path| path.to_string_lossy().ends_with("-dec.wav")).collect();
        heard.sort();
        tone::read(heard.last()?)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("baresip.log")).unwrap_or_default()
    }
}

impl Drop for Baresip {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn config(host: Ipv4Addr, dir: &Path) -> String {
    let modules =
        ["/usr/lib/baresip/modules", "/usr/lib64/baresip/modules", "/usr/local/lib/baresip/modules"];
    let modules = modules.iter().find(|path| Path::new(path).is_dir()).unwrap_or(&modules[0]);
    let dir = dir.display();
    format!(
        "poll_method\t\tepoll\nsip_listen\t\t{host}:5060\nnet_interface\t\t{host}\n\
         audio_source\t\taufile,{dir}/tone.wav\naudio_player\t\taubridge,unheard\naudio_alert\t\taubridge,unheard\n\
         audio_buffer\t\t20-160\nrtp_ports\t\t10000-10999\nrtp_stats\t\tno\njitter_buffer_type\tfixed\n\
         module_path\t\t{modules}\nmodule\t\t\tg711.so\nmodule\t\t\taufile.so\nmodule\t\t\taubridge.so\nmodule\t\t\tsndfile.so\n\
         snd_path\t\t{dir}\nmodule_tmp\t\tuuid.so\nmodule_tmp\t\taccount.so\nmodule_app\t\tmenu.so\nmodule_app\t\tctrl_tcp.so\n\
         ctrl_tcp_listen\t\t{host}:{CONTROL_PORT}\n"
    )
}
