//! Tandem, the binary: command line, configuration, the start and end of a node, the demo.
//!
//! Nothing is decided here: nodes are wired from the crates below, and every other command talks to a node's HTTP API.
//! Start reading at `cli`, then `node` and `demo`.

mod classic;
mod cli;
mod client;
mod commands;
mod config;
mod demo;
mod failure;
mod node;
mod output;
#[cfg(test)]
mod testing;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match commands::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&failure::describe(&error));
            ExitCode::from(failure::exit_code(&error))
        }
    }
}
