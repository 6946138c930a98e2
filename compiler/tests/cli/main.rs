//! Runs the built binary: every subcommand, its files, its exit codes and its errors.

mod compile;
mod difflut;
mod dont_cares;
mod emit;
mod errors;
mod export;
mod files;
mod harness;
mod inspect;
mod logic;
mod passes;
mod run;
mod tract;
mod verify;
