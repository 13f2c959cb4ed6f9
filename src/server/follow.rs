//! One stream of one follower: the list read aloud to a near-cache, and leases given to it (`wire/PROTOCOL.md`, section 7).
//!
//! The stream is sent before answers of the same connection, since what is announced here takes rights away. A change
//! alone goes out at once; in a flood the changes of a moment go out together ([`Pace`]). Nothing is kept for a follower: it reads
//! from the feed's ring, and one that reads too slowly is cut like anybody who does not read.
//!
//! Which way it falls: a follower that says what cannot be, or loses the right to ask, is told so and its stream ends;
//! its lease is waited for. When the list of callers was replaced, it hears "start over" before anything else.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use quinn::{RecvStream, SendStream};
use tokio::time::{Instant, sleep_until};

use super::admission::{Account, Follows};
use super::credentials::Callers;
use super::pace::Pace;
use super::session::{End, Input, Session};
use super::stats::{FeedStats, RefusedFor};
use crate::domain::Sequence;
use crate::feed::{Feed, Follower, News, Resume, Tag};
use crate::wire::follow::{self, ANNOUNCED_TAGS_MAX, Announced, Follower as Said};
use crate::wire::{Broken, CloseCode, ErrorCode, Malformed, Split, decode, encode};

/// Answers have priority 0.
const PRIORITY: i32 = 1;

/// What gathers before it is sent, in bytes.
const OUTPUT_BYTES: usize = 64 * 1024;

/// Why a follower is told no more.
struct Refused {
    id: u32,
    code: ErrorCode,
    text: String,
    reason: RefusedFor,
}

impl Refused {
    fn malformed(id: u32, text: impl ToString) -> Self {
        Self { id, code: ErrorCode::Malformed, text: text.to_string(), reason: RefusedFor::Malformed }
    }

    fn forbidden(id: u32) -> Self {
        let text = "this caller may not ask about tokens, so there is nothing it could follow".to_owned();
        Self { id, code: ErrorCode::Forbidden, text, reason: RefusedFor::Rights }
    }
}

/// A follower on its stream.
struct Following<'s> {
    feed: Feed,
    stats: &'s FeedStats,
    account: &'s Arc<Account>,
    /// Followers the caller may have.
    most: u32,
    follower: Option<Counted<'s>>,
    tags: Vec<Tag>,
}

/// A follower, counted for as long as it is there.
struct Counted<'s> {
    follower: Follower,
    lease: Duration,
    stats: &'s FeedStats,
    _among_the_callers: Follows,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.stats.followers.fetch_sub(1, Relaxed);
    }
}

impl Session {
    /// Serves the stream of a follower until it ends. What has arrived behind the stream's type is in `input`.
    pub(super) async fn follow(
        &self,
        send: &mut SendStream,
        receive: &mut RecvStream,
        input: Input,
        output: Vec<u8>,
    ) -> Result<(), End> {
        // The stream may be gone already; then writing to it says so.
        let _ = send.set_priority(PRIORITY);
        let served = self.read_aloud(send, receive, input, output).await;
        if matches!(served, Err(End::Close(CloseCode::TooSlow, _))) {
            self.stats.feed.cut.fetch_add(1, Relaxed);
        }
        served
    }

    async fn read_aloud(
        &self,
        send: &mut SendStream,
        receive: &mut RecvStream,
        mut input: Input,
        mut output: Vec<u8>,
    ) -> Result<(), End> {
        let mut following = Following {
            feed: self.shared.service.feed().clone(),
            stats: &self.stats.feed,
            account: &self.account,
            most: self.options.followers_per_caller,
            follower: None,
            tags: Vec::new(),
        };
        let mut callers = self.shared.callers.load_full();
        let mut may_ask = self.may_ask(&callers)?;
        let mut notices = self.notices.clone();
        let mut finished = false;
        let mut untold = false;
        let mut pace = Pace::new(self.options.follower_pause, Instant::now());
        let mut half_since = None;
        loop {
            if !Arc::ptr_eq(&callers, &self.shared.callers.load()) {
                callers = self.shared.callers.load_full();
                may_ask = self.may_ask(&callers)?;
            }
            let refused = if !may_ask && following.follower.is_some() {
                Err(Refused::forbidden(0))
            } else {
                self.hear(&mut following, &mut input, &mut output, send, may_ask).await?
            };
            if let Err(Refused { id, code, text, reason }) = refused {
                self.stats.quic.count_refused(reason);
                encode::error(&mut output, id, following.feed.head(), code, &text);
                self.flush(send, &mut output).await?;
                finish(send);
                return Ok(());
            }
            if finished {
                finish(send);
                return Ok(());
            }
            let followers = self.stats.feed.followers.load(Relaxed);
            if untold && Instant::now() >= pace.next(followers, following.is_hurried()) {
                let mut told = false;
                while following.tell(&mut output) {
                    told = true;
                    if output.len() >= OUTPUT_BYTES {
                        self.flush(send, &mut output).await?;
                    }
                }
                untold = false;
                if told {
                    pace.told(Instant::now(), followers);
                }
            }
            if !output.is_empty() {
                self.flush(send, &mut output).await?;
            }
            half_since = if input.is_empty() { None } else { half_since.or_else(|| Some(Instant::now())) };
            let patience = self.options.partial_message_deadline;
            tokio::select! {
                biased;
                changed = notices.changed() => {
                    if changed.is_err() {
                        return Err(End::Over);
                    }
                    super::session::pass_on_notice(&mut notices, &self.options, &mut output);
                }
                read = receive.read(input.space()) => match read {
                    Ok(Some(bytes)) => {
                        input.filled(bytes);
                        half_since = None;
                    }
                    Ok(None) => finished = true,
                    Err(_) => return Err(End::Over),
                },
                () = following.stirs(untold, &pace, followers) => untold = true,
                () = sleep_until(half_since.unwrap_or_else(Instant::now) + patience), if half_since.is_some() => {
                    let text = format!("half a message has waited for {} ms", patience.as_millis());
                    return Err(End::Close(CloseCode::TooSlow, text));
                }
            }
        }
    }

    /// Whether the caller has the right that following is for. Looked up when the list of callers was replaced.
    fn may_ask(&self, callers: &Callers) -> Result<bool, End> {
        let caller = callers.by_certificate(&self.certificate).ok_or_else(End::unknown_caller)?;
        Ok(caller.rights.ask.is_some())
    }

    /// Takes the whole messages that have arrived.
    async fn hear(
        &self,
        following: &mut Following<'_>,
        input: &mut Input,
        output: &mut Vec<u8>,
        send: &mut SendStream,
        may_ask: bool,
    ) -> Result<Result<(), Refused>, End> {
        loop {
            let (id, said, length) = match decode::split(input.bytes()) {
                Ok(Split::Whole(raw, length)) => (raw.id, follow::read_follower(&raw), length),
                Ok(Split::Partial) => return Ok(Ok(())),
                Err(broken) => {
                    let code = match broken {
                        Broken::TooShort(_) => CloseCode::Malformed,
                        Broken::TooLarge { .. } => CloseCode::TooLarge,
                    };
                    return Err(End::Close(code, broken.to_string()));
                }
            };
            input.used(length);
            if !may_ask {
                return Ok(Err(Refused::forbidden(id)));
            }
            let said = match said {
                Ok(said) => said,
                Err(Malformed::Kind(kind)) => {
                    let unknown = Refused::malformed(id, Malformed::Kind(kind));
                    return Ok(Err(Refused { code: ErrorCode::UnknownMessage, ..unknown }));
                }
                Err(malformed) => return Ok(Err(Refused::malformed(id, malformed))),
            };
            match said {
                Said::Follow { id, lease_ms, resume } => {
                    let now_ms = self.shared.clock.now_ms();
                    if let Err(refused) = following.begin(id, lease_ms, resume, now_ms, output) {
                        return Ok(Err(refused));
                    }
                }
                Said::Renew { id, acknowledged } => {
                    // Read after the renewal arrived, which was after it was sent.
                    let now = self.shared.clock.uptime();
                    if let Err(refused) = following.acknowledge(id, acknowledged) {
                        return Ok(Err(refused));
                    }
                    while !following.renew(id, now, self.shared.clock.now_ms(), output) {
                        if output.len() >= OUTPUT_BYTES {
                            self.flush(send, output).await?;
                        }
                    }
                }
                Said::Acknowledge { sequence } => {
                    if let Err(refused) = following.acknowledge(0, sequence) {
                        return Ok(Err(refused));
                    }
                }
            }
        }
    }
}

impl Following<'_> {
    fn begin(
        &mut self,
        id: u32,
        lease_ms: u32,
        resume: Option<follow::Resume>,
        server_time_ms: u64,
        output: &mut Vec<u8>,
    ) -> Result<(), Refused> {
        if self.follower.is_some() {
            return Err(Refused::malformed(id, "a stream is followed once; open another one"));
        }
        let resume = resume.map(|resume| Resume {
            epoch: resume.revision.epoch,
            incarnation: resume.incarnation,
            sequence: resume.revision.sequence,
        });
        let overloaded = |text| Refused { id, code: ErrorCode::Overloaded, text, reason: RefusedFor::Overload };
        let among_the_callers =
            self.account.follow(usize::try_from(self.most).unwrap_or(usize::MAX)).ok_or_else(|| {
                let most = self.most;
                overloaded(format!(
                    "this caller has {most} followers, the limit for one; raise limits.followers_per_caller"
                ))
            })?;
        let begun = self.feed.follow(resume, Duration::from_millis(u64::from(lease_ms)));
        let begun = begun.map_err(|full| overloaded(full.to_string()))?;
        self.stats.followers.fetch_add(1, Relaxed);
        let counter = if begun.resumed { &self.stats.resumed } else { &self.stats.begun };
        counter.fetch_add(1, Relaxed);
        let lease = begun.lease;
        self.follower =
            Some(Counted { follower: begun.follower, lease, stats: self.stats, _among_the_callers: among_the_callers });
        let said = Announced::Following {
            id,
            resumed: begun.resumed,
            incarnation: self.feed.incarnation(),
            sequence: begun.sequence,
            lease_ms: milliseconds(lease),
            server_time_ms,
        };
        follow::write_announced(output, &said);
        Ok(())
    }

    fn acknowledge(&self, id: u32, sequence: Sequence) -> Result<(), Refused> {
        let Some(Counted { follower, .. }) = &self.follower else {
            return Err(Refused::malformed(id, "the first message of a follower is a follow"));
        };
        follower.acknowledge(sequence).map_err(|untold| Refused::malformed(id, untold))
    }

    /// Answers a renewal, or a part of what stands before the answer; whether the lease was given.
    fn renew(&mut self, id: u32, now: Duration, server_time_ms: u64, output: &mut Vec<u8>) -> bool {
        let Some(Counted { follower, lease, .. }) = &mut self.follower else { return true };
        let length = milliseconds(*lease);
        let (news, lease) = follower.renew(now, ANNOUNCED_TAGS_MAX, &mut self.tags);
        self.write(news, output);
        let Some(lease) = lease else { return false };
        self.stats.leases.fetch_add(1, Relaxed);
        self.stats.lapsed.fetch_add(u64::from(lease.had_lapsed), Relaxed);
        let (previous, sequence) = (lease.previous, lease.sequence);
        follow::write_announced(output, &Announced::Lease { id, previous, sequence, lease_ms: length, server_time_ms });
        true
    }

    /// Writes the next announcement, if there is one.
    fn tell(&mut self, output: &mut Vec<u8>) -> bool {
        let Some(Counted { follower, .. }) = &mut self.follower else { return false };
        let news = follower.news(ANNOUNCED_TAGS_MAX, &mut self.tags);
        self.write(news, output);
        news != News::Nothing
    }

    fn write(&self, news: News, output: &mut Vec<u8>) {
        match news {
            News::Nothing => {}
            News::Touched { previous, sequence, everything } => {
                self.stats.announcements.fetch_add(1, Relaxed);
                let tags = (!everything).then(|| self.tags.iter().map(|tag| tag.0));
                follow::write_touched(output, previous, sequence, tags);
            }
            News::StartOver { sequence } => {
                self.stats.started_over.fetch_add(1, Relaxed);
                follow::write_announced(output, &Announced::StartOver { sequence });
            }
        }
    }

    /// Waits until there may be something to tell, for ever before the stream is followed. With something `untold`: until
    /// the pause before it is over, or somebody waits for it.
    async fn stirs(&mut self, untold: bool, pace: &Pace, followers: i64) {
        let is_hurried = self.is_hurried();
        match &mut self.follower {
            None => std::future::pending().await,
            Some(Counted { follower, .. }) if !untold => follower.stirred().await,
            Some(_) if is_hurried => sleep_until(pace.next(followers, true)).await,
            Some(Counted { follower, .. }) => tokio::select! {
                () = sleep_until(pace.next(followers, false)) => {}
                () = follower.hurried() => {}
            },
        }
    }

    /// Whether a fence waits for what is untold.
    fn is_hurried(&self) -> bool {
        self.follower.as_ref().is_some_and(|counted| counted.follower.is_hurried())
    }
}

fn milliseconds(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

/// Ends our direction; the follower may have reset it, and then there is nothing left to end.
fn finish(send: &mut SendStream) {
    let _ = send.finish();
}
