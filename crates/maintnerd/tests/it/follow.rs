//! The client that bots use.

use std::sync::{Arc, Mutex};

use maintner::{Start, Update, follow};
use runtime::Tasks;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    World, all_words,
    results::{append, result},
    within,
};

/// A bot that writes down what it is told.
struct Bot {
    tasks: Tasks,
    notes: Arc<Mutex<Vec<String>>>,
    count: watch::Receiver<usize>,
    token: Arc<Mutex<String>>,
}

impl Bot {
    fn start(world: &World, start: Start) -> Self {
        let tasks = Tasks::new(CancellationToken::new());
        let (notes, token) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<Mutex<String>>::default());
        let (counted, count) = watch::channel(0);
        let (kept, latest) = (Arc::clone(&notes), Arc::clone(&token));
        let handle = move |update: Update| {
            let mut notes = kept.lock().unwrap();
            match update {
                Update::Batch { mutations, token } => {
                    notes.extend(all_words(&mutations));
                    *latest.lock().unwrap() = token;
                }
                Update::CaughtUp { token, .. } => *latest.lock().unwrap() = token,
                Update::Restarted => notes.push("restarted".into()),
            }
            counted.send_replace(notes.len());
            async { Ok::<(), std::convert::Infallible>(()) }
        };
        let following = follow(world.channel(), start, tasks.shutdown(), handle);
        tasks.service("bot", async move { Ok(following.await?) });
        Self { tasks, notes, count, token }
    }

    async fn has(&mut self, count: usize) -> Vec<String> {
        within(self.count.wait_for(|have| *have >= count)).await.unwrap();
        self.notes.lock().unwrap().clone()
    }

    async fn stop(self) -> String {
        self.tasks.shutdown().cancel();
        self.tasks.finish(crate::PATIENCE).await.unwrap();
        let token = self.token.lock().unwrap();
        token.clone()
    }
}

#[tokio::test]
async fn a_bot_goes_on_where_it_stopped() {
    let world = World::start().await;
    append(&world, vec![result(1, 1, "passed")]).await.unwrap();
    let mut bot = Bot::start(&world, Start::Beginning);
    assert_eq!(bot.has(1).await, ["build 1.1 passed"]);
    let token = bot.stop().await;
    append(&world, vec![result(2, 1, "failed")]).await.unwrap();
    let mut bot = Bot::start(&world, Start::After(token));
    assert_eq!(bot.has(1).await, ["build 2.1 failed"]);
    append(&world, vec![result(3, 1, "passed")]).await.unwrap();
    assert_eq!(bot.has(2).await, ["build 2.1 failed", "build 3.1 passed"]);
    bot.stop().await;
    world.end().await;
}

#[tokio::test]
async fn a_bot_with_the_token_of_another_log_begins_anew() {
    let (world, other) = (World::start().await, World::start().await);
    append(&other, vec![result(7, 1, "passed")]).await.unwrap();
    let (_, token) = other.watch("").await.take(1).await;
    append(&world, vec![result(1, 1, "passed")]).await.unwrap();
    let mut bot = Bot::start(&world, Start::After(token));
    assert_eq!(bot.has(2).await, ["restarted", "build 1.1 passed"]);
    bot.stop().await;
    world.end().await;
    other.end().await;
}
