//! The worlds that are searched.

use std::time::Duration;

use apify_mirror::model::{Order, SinkLimits};

/// Longer than any history.
const NEVER: Duration = Duration::from_secs(32 * 3_600);

/// A world.
#[derive(Debug)]
pub struct Plan {
    pub name: &'static str,
    /// The runs of the events, in order.
    pub events: &'static [&'static str],
    /// How many of these a commit raises.
    pub at_once: usize,
    pub sinks: &'static [Policy],
    /// Whether the process can die.
    pub crashes: bool,
    /// How many steps are searched by default.
    pub depth: usize,
}

/// A sink, and what can happen to it.
#[derive(Debug)]
pub struct Policy {
    pub name: &'static str,
    /// Its limits, and what they become when its settings change.
    pub limits: [SinkLimits; 2],
    pub give_up_after: Duration,
    /// So many other runs have failed before anything else happens.
    pub failed_before: usize,
    /// Whether exchanges with the outbox can fail, and take place before they are answered.
    pub exchanges_fail: bool,
    /// Whether the sink can reject and refuse events, and go away for good.
    pub refuses: bool,
    /// Whether it can leave the configuration and come back, and its settings can change.
    pub reloads: bool,
    /// Whether an operator retries and drops deliveries.
    pub by_hand: bool,
    /// Whether its worker only makes passes that end when nothing is due.
    pub passes: bool,
}

const fn limits(order: Order, batch: usize, concurrency: usize) -> SinkLimits {
    SinkLimits {
        order,
        batch,
        concurrency,
    }
}

/// A file or the standard output, which gets up to two events at once.
const FILE: Policy = Policy {
    name: "file",
    limits: [limits(Order::Stream, 2, 1), limits(Order::Stream, 1, 1)],
    give_up_after: NEVER,
    failed_before: 0,
    exchanges_fail: true,
    refuses: false,
    reloads: false,
    by_hand: false,
    passes: false,
};

/// A webhook with two attempts in flight.
const HOOK: Policy = Policy {
    name: "hook",
    limits: [limits(Order::Run, 1, 2), limits(Order::Run, 1, 1)],
    ..FILE
};

pub static STREAM: Plan = Plan {
    name: "stream",
    events: &["a", "a", "b"],
    at_once: 1,
    sinks: &[FILE],
    crashes: true,
    depth: 12,
};

pub static WEBHOOK: Plan = Plan {
    name: "webhook",
    events: &["a", "a", "b"],
    at_once: 2,
    sinks: &[HOOK],
    crashes: true,
    depth: 11,
};

pub static REFUSING: Plan = Plan {
    name: "refusing webhook",
    sinks: &[Policy {
        exchanges_fail: false,
        refuses: true,
        give_up_after: Duration::from_secs(2),
        ..HOOK
    }],
    depth: 10,
    ..WEBHOOK
};

pub static TIRED: Plan = Plan {
    name: "webhook about to be given a rest",
    events: &["a", "b", "a"],
    sinks: &[Policy {
        exchanges_fail: false,
        failed_before: 7,
        give_up_after: Duration::from_secs(2),
        ..HOOK
    }],
    depth: 10,
    ..WEBHOOK
};

pub static RELOADED: Plan = Plan {
    name: "sink that leaves and comes back",
    sinks: &[Policy {
        reloads: true,
        ..HOOK
    }],
    crashes: false,
    depth: 9,
    ..WEBHOOK
};

pub static BY_HAND: Plan = Plan {
    name: "deliveries changed by hand",
    sinks: &[Policy {
        exchanges_fail: false,
        refuses: true,
        by_hand: true,
        ..HOOK
    }],
    crashes: false,
    depth: 8,
    ..WEBHOOK
};

pub static BY_HAND_WITH_FAILURES: Plan = Plan {
    name: "deliveries changed by hand while exchanges fail",
    sinks: &[Policy {
        by_hand: true,
        ..HOOK
    }],
    crashes: false,
    depth: 9,
    ..WEBHOOK
};

pub static PASSES: Plan = Plan {
    name: "passes",
    sinks: &[Policy {
        passes: true,
        ..HOOK
    }],
    depth: 10,
    ..WEBHOOK
};

pub static TWO: Plan = Plan {
    name: "two sinks",
    sinks: &[FILE, HOOK],
    depth: 6,
    ..STREAM
};
