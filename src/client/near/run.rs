//! The follower's task: a feed on one of the client's connections, and another when that one is lost.
//!
//! Reads everything there is before it writes, so that what it acknowledges is what it has applied last. It never keeps
//! anybody waiting: those who answer from memory see what it writes, and wait for nothing.

use std::sync::Arc;
use std::time::Duration;

use quinn::{Connection, RecvStream, SendStream};
use tokio::time::{Instant, sleep, timeout};

use super::Shared;
use super::clock::Moment;
use super::follow::{Broken, Follower};
use crate::client::Client;
use crate::client::answer::Error;
use crate::client::dial::lost;
use crate::client::link::{BACKOFF_FIRST, INPUT_BYTES, read_lost, shaken, write, write_lost};
use crate::wire::decode::Raw;
use crate::wire::follow::{read_announced, write_follower};
use crate::wire::message::{Answer, kind};
use crate::wire::{STREAM_FEED, Split, decode};

/// Acknowledgements and renewals go before the questions of the same connection, which have 0: a fence may wait for one, and a
/// lease has to be renewed while questions pile up.
const PRIORITY: i32 = 1;

/// How long a link is waited for at a time.
const PATIENCE: Duration = Duration::from_secs(5);

/// Follows until it is aborted or the client is closed.
pub(super) async fn keep_following(client: Client, shared: Arc<Shared>, lease: Duration) {
    let mut follower = Follower::new(lease);
    let mut pause = BACKOFF_FIRST;
    let mut avoid = None;
    let (backoff_max, deadline) = (client.0.common.backoff_max, client.0.common.connect_deadline);
    while !*client.0.common.closing.borrow() {
        let followed = match client.connection(Instant::now() + PATIENCE, avoid).await {
            Ok((link, connection)) => {
                avoid = Some(link);
                let before = follower.follows;
                let end = Feed { shared: &shared, follower: &mut follower }.run(&connection, deadline).await;
                shared.follow_ended(&end);
                follower.lost();
                follower.follows > before
            }
            Err(error) => {
                shared.follow_ended(&error);
                false
            }
        };
        if followed {
            pause = BACKOFF_FIRST;
        }
        sleep(shaken(pause)).await;
        pause = (pause * 2).min(backoff_max);
    }
}

/// One feed, from its first byte to its end.
struct Feed<'f> {
    shared: &'f Shared,
    follower: &'f mut Follower,
}

impl Feed<'_> {
    /// Why it ended.
    async fn run(&mut self, connection: &Connection, deadline: Duration) -> Error {
        let opened = timeout(deadline, connection.open_bi()).await;
        let (mut send, mut receive) = match opened {
            Ok(Ok(streams)) => streams,
            Ok(Err(error)) => return lost(&error),
            Err(_) => return Error::Unavailable("the server opens no stream".to_owned()),
        };
        // The stream may be gone already; then writing to it says so.
        let _ = send.set_priority(PRIORITY);
        match self.talk(&mut send, &mut receive, deadline).await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn talk(
        &mut self,
        send: &mut SendStream,
        receive: &mut RecvStream,
        deadline: Duration,
    ) -> Result<std::convert::Infallible, Error> {
        let mut input = vec![0; INPUT_BYTES];
        let mut filled = 0;
        let mut output = vec![STREAM_FEED];
        let mut greeted = false;
        let hello_deadline = sleep(deadline);
        tokio::pin!(hello_deadline);
        loop {
            let wakes = self.follower.wakes().map(|at| at.since(Moment::now()));
            tokio::select! {
                biased;
                read = receive.read(input.get_mut(filled..).unwrap_or_default()) => match read {
                    Ok(Some(bytes)) => {
                        filled += bytes;
                        let used = self.take(input.get(..filled).unwrap_or_default(), &mut greeted, &mut output)?;
                        input.copy_within(used..filled, 0);
                        filled -= used;
                    }
                    Ok(None) => return Err(Error::Unavailable("the server ended the feed".to_owned())),
                    Err(error) => return Err(read_lost(&error)),
                },
                wrote = write(send, &output), if !output.is_empty() => {
                    let bytes = wrote.map_err(|error| write_lost(&error))?;
                    output.drain(..bytes.min(output.len()));
                }
                () = sleep(wakes.unwrap_or(Duration::MAX)), if wakes.is_some() && output.is_empty() => {}
                () = self.shared.nudge.notified() => {
                    let beyond = self.shared.beyond.load(std::sync::atomic::Ordering::Relaxed);
                    self.follower.nudge(beyond, Moment::now());
                }
                () = &mut hello_deadline, if !greeted => {
                    return Err(Error::Unavailable("the server does not greet".to_owned()));
                }
            }
            // What waits to be said while the server does not read becomes one acknowledgement of all of it.
            while output.is_empty()
                && let Some(said) = self.follower.due(Moment::now()).map_err(broken)?
            {
                write_follower(&mut output, &said);
            }
        }
    }

    /// Applies the messages at the front of `input`; says how many bytes they took.
    fn take(&mut self, input: &[u8], greeted: &mut bool, output: &mut Vec<u8>) -> Result<usize, Error> {
        let mut used = 0;
        loop {
            let split = decode::split(input.get(used..).unwrap_or_default());
            let (raw, length) = match split {
                Ok(Split::Whole(raw, length)) => (raw, length),
                Ok(Split::Partial) => return Ok(used),
                Err(error) => return Err(self.unreadable(&error)),
            };
            used += length;
            if !(kind::FOLLOWING..=kind::FEED_LAST).contains(&raw.kind) {
                if let Some(follow) = self.greeting(&raw, greeted)? {
                    write_follower(output, &follow);
                }
                continue;
            }
            let announced = match read_announced(&raw) {
                Ok(announced) if *greeted => announced,
                Ok(_) => return Err(self.unreadable(&"a message before the hello")),
                Err(error) => return Err(self.unreadable(&error)),
            };
            let heard = self.follower.hear(&announced, Moment::now(), &self.shared.memory.belief);
            self.shared.heard(self.follower.follows);
            heard.map_err(broken)?;
        }
    }

    /// What is said on every stream.
    fn greeting(&mut self, raw: &Raw<'_>, greeted: &mut bool) -> Result<Option<crate::wire::follow::Follower>, Error> {
        match decode::answer(raw) {
            Ok(Answer::Hello(hello)) if !*greeted => {
                *greeted = true;
                Ok(Some(self.follower.connected(hello.epoch, Moment::now())))
            }
            Ok(Answer::GoingAway { .. }) => Err(Error::Unavailable("the server asked to leave".to_owned())),
            Ok(Answer::Error { code, text, .. }) => Err(Error::from_code(code, text)),
            Ok(_) => Err(self.unreadable(&"a message that does not belong on a feed")),
            Err(error) => Err(self.unreadable(&error)),
        }
    }

    fn unreadable(&mut self, what: &dyn std::fmt::Display) -> Error {
        self.follower.doubt(&self.shared.memory.belief);
        Error::Protocol(what.to_string())
    }
}

fn broken(Broken(what): Broken) -> Error {
    Error::Protocol(what.to_owned())
}
