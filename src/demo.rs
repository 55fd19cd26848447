//! `tandem demo`: three real nodes on one machine, brought up from nothing or from their state, watched, stopped.

mod content;
mod credentials;
mod layout;
mod processes;
mod screen;

use std::fs::File;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};
use tandem_api::List;
use tandem_api::views::{InvitationView, StatusView, TenantView};
use tandem_state::config::wanted::WantedConfig;

use crate::cli::DemoArgs;
use crate::client::Client;
use crate::commands::{config_file, prepare};
use crate::config::Config;
use crate::demo::credentials::Credentials;
use crate::demo::layout::{Layout, Node};
use crate::demo::processes::Processes;
use crate::failure::refused;
use crate::node::first_token;
use crate::node::signals::Signals;
use crate::output::{print, progress};

/// All of it must stand within this.
const START_MAX: Duration = Duration::from_secs(90);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// Runs the demo until a signal ends it.
pub(crate) async fn run(args: DemoArgs) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    let layout = Layout::of(&args)?;
    let _lock = lock(&layout)?;
    let wanted = args.file.as_deref().map(config_file::read).transpose()?;
    processes::none_left(&layout)?;
    layout.ports_are_free()?;
    layout.write_configs()?;
    let mut processes = Processes::default();
    let started = tokio::select! {
        started = bring_up(&layout, wanted.as_ref(), &mut processes) => started,
        () = signals.next() => Err(refused("interrupted before the nodes stood", "")),
    };
    let done = match started {
        Ok(credentials) => {
            print(&screen::ready(&layout, &credentials))?;
            tokio::select! {
                () = processes.watch(&layout) => (),
                () = signals.next() => (),
            }
            Ok(())
        }
        Err(error) => Err(error),
    };
    progress("stopping all nodes ...");
    processes.stop_all(&layout).await;
    progress(&format!("stopped; `tandem demo --dir {}` goes on with the same state", layout.dir.display()));
    done
}

fn lock(layout: &Layout) -> anyhow::Result<File> {
    let path = layout.dir.join("demo.lock");
    let file = File::create(&path).with_context(|| path.display().to_string())?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        let todo = "stop it with Ctrl-C, or use another --dir (and --subnet) for a second one";
        refused(format!("another demo runs on {}", layout.dir.display()), todo)
    })?;
    Ok(file)
}

async fn bring_up(
    layout: &Layout,
    wanted: Option<&WantedConfig>,
    processes: &mut Processes,
) -> anyhow::Result<Credentials> {
    let deadline = Instant::now() + START_MAX;
    let (mut credentials, first_hash) = match Credentials::load(layout)? {
        Some(credentials) => (credentials, None),
        None => {
            let (token, hash) = first_token::draw()?;
            (Credentials { admin_token: token, extensions: Vec::new() }, Some(hash))
        }
    };
    start_first(layout, &mut credentials, first_hash, processes)?;
    let client = Client::new(&layout.first()?.api_url(), credentials.admin_token.clone())?;
    for node in layout.others() {
        if node.is_prepared() {
            processes.start(node)?;
        }
    }
    for node in layout.others() {
        if !node.is_prepared() {
            join(&client, node, processes, deadline).await?;
        }
    }
    progress("waiting for the quorum and for SIP on all nodes ...");
    all_up(layout, &client, deadline).await?;
    fill(&client, wanted, &mut credentials).await?;
    credentials.save(layout)?;
    everywhere(layout, &credentials, deadline).await?;
    Ok(credentials)
}

fn start_first(
    layout: &Layout,
    credentials: &mut Credentials,
    first_hash: Option<[u8; 32]>,
    processes: &mut Processes,
) -> anyhow::Result<()> {
    let node = layout.first()?;
    if !node.is_prepared() {
        progress("making a new cluster ...");
        credentials.save(layout)?;
        let hash = first_hash.unwrap_or_else(|| tandem_api::token::hash(&credentials.admin_token));
        prepare(&Config::load(&node.config())?, hash)?;
    }
    processes.start(node)
}

async fn join(
    client: &Client,
    node: &Node,
    processes: &mut Processes,
    deadline: Instant,
) -> anyhow::Result<()> {
    progress(&format!("{} joins ...", node.name));
    let body = json!({ "role": "full", "valid_s": 300 });
    let invited = until(deadline, "n1 can't invite", async || {
        client.post::<InvitationView>("/v1/cluster/invite", &[], &body).await.ok()
    });
    let token = invited.await?.token;
    let config = Config::load(&node.config())?;
    let joined = until(deadline, "a node can't join", async || {
        tandem_cluster::join(&config.data, &token, &config.name).await.ok()
    });
    joined.await?;
    processes.start(node)
}

/// Waits until every node is a voter that answers, and takes calls.
async fn all_up(layout: &Layout, client: &Client, deadline: Instant) -> anyhow::Result<()> {
    let whole = |status: &StatusView| {
        let up = |name: &str| {
            let mut nodes = status.nodes.iter();
            nodes.any(|node| {
                node.name == name
                    && node.state == "up"
                    && ["leader", "follower"].contains(&node.raft.as_str())
            })
        };
        status.quorum && layout.nodes.iter().all(|node| up(&node.name))
    };
    until(deadline, "the nodes found no quorum", async || {
        client.get::<StatusView>("/v1/cluster", &[]).await.ok().filter(&whole)
    })
    .await?;
    for node in &layout.nodes {
        let client = Client::new(&node.api_url(), String::new())?;
        let why = format!("{} takes no calls", node.name);
        until(deadline, &why, async || client.is_ok("/readyz").await.then_some(())).await?;
    }
    Ok(())
}

/// Applies the content; a cluster that has tenants already keeps what it has, unless a file is given.
async fn fill(
    client: &Client,
    wanted: Option<&WantedConfig>,
    credentials: &mut Credentials,
) -> anyhow::Result<()> {
    let body = match wanted {
        Some(wanted) => {
            credentials.take_from(wanted);
            config_file::sendable(wanted)?
        }
        None => {
            let tenants: List<TenantView> = client.get("/v1/tenants", &[("consistent", "true")]).await?;
            if !tenants.items.is_empty() {
                return Ok(());
            }
            if credentials.extensions.is_empty() {
                credentials.extensions = content::extensions()?;
            }
            content::file(&credentials.extensions)
        }
    };
    progress("applying tenants and extensions ...");
    client.post::<Value>("/v1/config", &[], &body).await.context("the demo's content").map(drop)
}

/// Waits until every node has applied what was acknowledged so far.
async fn everywhere(layout: &Layout, credentials: &Credentials, deadline: Instant) -> anyhow::Result<()> {
    for node in &layout.nodes {
        let client = Client::new(&node.api_url(), credentials.admin_token.clone())?;
        let why = format!("{} is behind", node.name);
        let seen = until(deadline, &why, async || {
            client.get::<Value>("/v1/tenants", &[("consistent", "true"), ("limit", "1")]).await.ok()
        });
        seen.await?;
    }
    Ok(())
}

/// Looks again and again until there is something.
async fn until<T>(
    deadline: Instant,
    why: &str,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> anyhow::Result<T> {
    loop {
        if let Some(found) = look().await {
            return Ok(found);
        }
        if Instant::now() > deadline {
            return Err(refused(why, "look at tandem.log in the folders n1, n2 and n3 of the demo"));
        }
        tokio::time::sleep(LOOK).await;
    }
}
