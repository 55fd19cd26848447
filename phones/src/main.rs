//! `tandem-phones`: the command line of the load phones. Each command prints one line of JSON.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::io::Write as _;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};
use tandem_phones::digest::Algorithm;
use tandem_phones::register::Phones;
use tandem_phones::{calls, measure, register};

#[derive(Parser)]
#[command(version, about = "Load phones: register, call, talk, and measure what it costs the other side")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Register many phones at a rate
    #[command(
        after_help = "Example: tandem-phones register --target 127.0.0.1:5060 --domain acme.example --first 1000 --count 500"
    )]
    Register(RegisterArgs),
    /// Place calls between registered phones
    #[command(
        after_help = "Example: tandem-phones calls --target 127.0.0.1:5060 --callee-target 127.0.0.2:5060 --domain acme.example \
                            --first 1000 --count 100 --calls 100 --plateau --rtp --hold 30"
    )]
    Calls(CallArgs),
    /// CPU seconds and memory of process trees over a time
    #[command(after_help = "Example: tandem-phones measure --pid 4711 --seconds 10")]
    Measure(MeasureArgs),
}

#[derive(Args)]
struct PhoneArgs {
    /// The phones' address
    #[arg(long, default_value = "127.0.0.1:0")]
    local: SocketAddrV4,
    /// SIP servers, taken in turn
    #[arg(long, required = true)]
    target: Vec<SocketAddrV4>,
    /// Realm and host of the addresses of record
    #[arg(long)]
    domain: String,
    /// The first phone's number
    #[arg(long, default_value_t = 1000)]
    first: u64,
    /// How many phones (pairs, for calls)
    #[arg(long, default_value_t = 100)]
    count: usize,
    /// The environment variable that holds the password of all phones
    #[arg(long, default_value = "PHONES_PASSWORD")]
    password_env: String,
    /// Which challenge to answer
    #[arg(long, value_enum, default_value_t = Hash::First)]
    algorithm: Hash,
    /// Process trees to measure
    #[arg(long = "pid")]
    pids: Vec<u32>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Hash {
    First,
    Md5,
    Sha256,
}

#[derive(Args)]
struct RegisterArgs {
    #[command(flatten)]
    phones: PhoneArgs,
    /// REGISTERs per second
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// Measured rounds over all phones
    #[arg(long, default_value_t = 1)]
    rounds: u32,
    /// Each round makes new bindings, instead of refreshing those of an unmeasured first round
    #[arg(long)]
    fresh: bool,
    /// The first round is an avalanche: all phones at once, each until it is registered, obeying Retry-After
    #[arg(long)]
    avalanche: bool,
    /// Seconds that an avalanche may take
    #[arg(long, default_value_t = 300)]
    patience: u64,
    /// Use the last nonce again instead of waiting for a challenge
    #[arg(long)]
    keep_nonce: bool,
    /// Unregister at the end
    #[arg(long)]
    unregister: bool,
    /// Expires, seconds
    #[arg(long, default_value_t = 3600)]
    expires: u32,
}

#[derive(Args)]
struct CallArgs {
    #[command(flatten)]
    phones: PhoneArgs,
    /// SIP servers of the called phones; the callers' if left out
    #[arg(long)]
    callee_target: Vec<SocketAddrV4>,
    /// The first called phone's number; after the callers' if left out
    #[arg(long)]
    callee_first: Option<u64>,
    /// Calls in all (with --plateau: at once)
    #[arg(long, default_value_t = 100)]
    calls: usize,
    /// New calls per second
    #[arg(long, default_value_t = 20.0)]
    rate: f64,
    /// Seconds that a call, or the plateau, is held
    #[arg(long, default_value_t = 5.0)]
    hold: f64,
    /// All up, hold and measure, all down
    #[arg(long)]
    plateau: bool,
    /// With sound
    #[arg(long)]
    rtp: bool,
    /// First port of the phones' sound
    #[arg(long, default_value_t = 30_000)]
    rtp_port: u16,
    /// Milliseconds that the called phone rings
    #[arg(long, default_value_t = 0)]
    ring_ms: u64,
    /// Who ends the calls
    #[arg(long, value_enum, default_value_t = EndsArg::Both)]
    ends: EndsArg,
    /// The called phones are registered already, at --local
    #[arg(long)]
    no_register: bool,
    /// Seconds to wait for an answer
    #[arg(long, default_value_t = 32.0)]
    patience: f64,
}

#[derive(Clone, Copy, ValueEnum)]
enum EndsArg {
    Caller,
    Callee,
    Both,
}

#[derive(Args)]
struct MeasureArgs {
    /// Process trees to measure
    #[arg(long = "pid", required = true)]
    pids: Vec<u32>,
    /// How long
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
}

impl PhoneArgs {
    fn phones(&self) -> Phones {
        Phones {
            local: self.local,
            targets: self.target.clone(),
            domain: self.domain.clone(),
            first: self.first,
            count: self.count,
            password: std::env::var(&self.password_env).unwrap_or_default(),
            algorithm: match self.algorithm {
                Hash::First => Algorithm::First,
                Hash::Md5 => Algorithm::Md5,
                Hash::Sha256 => Algorithm::Sha256,
            },
        }
    }
}

fn main() -> std::io::Result<()> {
    let result = match Cli::parse().command {
        Command::Register(args) => register::run(&register::Options {
            phones: args.phones.phones(),
            rate: args.rate,
            rounds: args.rounds,
            fresh: args.fresh,
            avalanche: args.avalanche.then_some(Duration::from_secs(args.patience)),
            keep_nonce: args.keep_nonce,
            unregister: args.unregister,
            expires: args.expires,
            pids: args.phones.pids,
        })?,
        Command::Calls(args) => calls::run(&call_options(&args))?,
        Command::Measure(args) => measured(&args),
    };
    writeln!(std::io::stdout(), "{result}")
}

fn call_options(args: &CallArgs) -> calls::Options {
    let callers = args.phones.phones();
    let mut callees = callers.clone();
    callees.first = args.callee_first.unwrap_or(callers.first + callers.count as u64);
    if !args.callee_target.is_empty() {
        callees.targets.clone_from(&args.callee_target);
    }
    if callees.local.port() == 0 {
        callees.local.set_port(5099);
    }
    calls::Options {
        callers,
        callees,
        calls: args.calls,
        rate: args.rate,
        hold: Duration::from_secs_f64(args.hold),
        plateau: args.plateau,
        rtp: args.rtp,
        rtp_port: args.rtp_port,
        ring: Duration::from_millis(args.ring_ms),
        ends: match args.ends {
            EndsArg::Caller => calls::Ends::Caller,
            EndsArg::Callee => calls::Ends::Callee,
            EndsArg::Both => calls::Ends::Both,
        },
        register: !args.no_register,
        pids: args.phones.pids.clone(),
        patience: Duration::from_secs_f64(args.patience),
        watch: None,
    }
}

fn measured(args: &MeasureArgs) -> serde_json::Value {
    let (start, began) = (measure::usage(&args.pids), Instant::now());
    std::thread::sleep(Duration::from_secs_f64(args.seconds));
    let end = measure::usage(&args.pids);
    serde_json::json!({
        "tool": "measure", "seconds": began.elapsed().as_secs_f64(),
        "cpu_s": end.cpu_s - start.cpu_s, "rss_kb_before": start.rss_kb, "rss_kb_after": end.rss_kb,
    })
}
