//! A feed against a server that fails in the middle of a long catch-up.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::context::{Context, Plan, Subscriptions};
use super::feed::Feed;
use super::progress::Progress;
use crate::api::Client;
use crate::api::testing::client;
use crate::model::{Details, Retention, Seed, Task, Timestamp};
use crate::simulator::{Fault, Faults, Server, World};
use crate::store::SqliteStore;
use crate::sync::{Outcome, Settings};

/// How many more bodies of a megabyte might be read ahead.
fn room(client: &Client) -> usize {
    let one = || {
        client
            .memory()
            .body_ahead(1 << 20, CancellationToken::new())
    };
    std::iter::from_fn(one).collect::<Vec<_>>().len()
}

#[tokio::test]
async fn a_feed_that_sleeps_holds_nothing_that_others_need() {
    let mut world = World::new(1);
    let task = world.add_task("janedoe", "it");
    for second in 0..300 {
        world.create(&task, Timestamp::from_millis(second * 1_000));
    }
    let server = Server::start(world).await.unwrap();
    server.set_faults(Faults::matching("offset=80&", Fault::Status(403)));
    let client = client(&server);
    let plan = Plan {
        tasks: Vec::new(),
        discover_tasks: false,
        sync: Settings {
            page_size: 10,
            overlap: 1,
            poll_interval: Duration::from_secs(15),
            watch_interval: Duration::from_secs(60),
            settle: Duration::ZERO,
            audit_interval: None,
            read_ahead: 64,
            history_events: false,
            details: Details::None,
            seed: Seed(1),
        },
        retention: Retention::default(),
        sinks: Vec::new(),
        subscriptions: Subscriptions::Configured,
    };
    let (store, reader) = SqliteStore::in_memory().unwrap();
    let (store, reader) = (Arc::new(store), Arc::new(reader));
    let all = room(&client);
    let context = Context::new(client.clone(), store, reader, Progress::new(None), plan);
    let task = Task {
        id: task,
        ..Task::default()
    };
    let mut feed = Feed::load(Arc::new(context.await.unwrap()), task)
        .await
        .unwrap();
    let poll = feed.poll().await.unwrap();
    assert_eq!(poll.outcome, Outcome::Failed);
    assert!(server.take_requests().len() > 5, "it reads ahead");
    let given_back = async {
        while room(&client) < all {
            tokio::task::yield_now().await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(20), given_back).await;
    assert!(in_time.is_ok(), "room for {} of {all}", room(&client));
}
