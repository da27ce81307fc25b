//! Every history of a small world, played against the real state machines.
//!
//! Where `tests/simulation` draws long histories at random, these searches leave nothing to chance: they play *all*
//! histories of a world that is small enough, breadth-first, so that the first that breaks a rule is a shortest one. It is
//! printed step by step. From each state they also go on with nothing failing any more, and everything has to come
//! right within a stated number of steps.
//!
//! Each search plays all histories up to a number of steps that takes some seconds, and prints how many states it has
//! seen (`--nocapture`). `EXHAUSTIVE_DEEPER=2 cargo test --release --test exhaustive` plays histories that are two steps
//! longer, which takes some ten times as long, and as much more memory.

#![allow(clippy::unwrap_used)]

mod canonical;
mod delivery;
mod search;
mod sync;
