//! What the benchmarks share.

pub mod account;
pub mod process;

/// Prints whether a limit holds, and returns that.
pub fn hold(what: &str, holds: bool) -> bool {
    println!("  {} {what}", if holds { "ok  " } else { "OVER" });
    holds
}
