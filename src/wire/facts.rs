//! The answer to a question for facts: what decides about a token at a place, so that whoever holds it can decide any
//! scope there itself, with the same code as the server's ([`crate::domain::access`]).
//!
//! Read and written here, drawn in `PROTOCOL.md`. Values are borrowed; the pairs are an iterator over the message.
//! As everywhere in this room a value has one spelling: pairs without a scope are left out when written and refused
//! when read, because they decide nothing.

use crate::domain::access::{ClientKind, Covers, MemberFacts, PairFacts, PlaceFacts, PolicyFacts};
use crate::domain::{Expiry, PolicyMode, Sequence, Switch, Timestamp};

use super::decode::{Body, Read, bad};
use super::encode::{TooLong, begin_at, mask, seal};
use super::message::kind;

/// How many tags an answer of facts depends on: token, grant, subject, client, workspace, in this order.
pub const TAGS: usize = 5;

/// The most pairs an answer of facts holds. A place that more pairs cover is *too large*: ask *check* there.
pub const PAIRS_MAX: usize = 255;

/// What decides about an active token at one place, until its times or one of its tags say otherwise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Facts<'b> {
    /// Everything but the pairs.
    pub head: FactsHead,
    /// The pairs of the grant that cover the place, cut to what the token was narrowed to. None: nothing is granted
    /// there, which is a fact too.
    pub pairs: Pairs<'b>,
}

/// [`Facts`] without its list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FactsHead {
    /// What it was computed at: good as long as no tag was touched later than this.
    pub sequence: Sequence,
    /// The server's start that drew the tags. Of another incarnation than the feed's: useless.
    pub incarnation: u64,
    /// What it depends on: the token, its grant, subject and client, the place's workspace.
    pub tags: [u64; TAGS],
    /// Good from here on.
    pub not_before: Timestamp,
    /// Good until then (exclusive): the earlier of the token's and the grant's end.
    pub expiry: Expiry,
    /// Membership and policy at the place.
    pub place: PlaceFacts,
}

/// The pairs of an answer of facts. Checked when they were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pairs<'b>(&'b [u8]);

impl<'b> Pairs<'b> {
    fn read(body: &mut Body<'b>, is_project: bool) -> Read<Self> {
        let count = body.u8()?;
        let whole = body.0;
        for _ in 0..count {
            let pair = Self::pair(body)?;
            if pair.covers == Covers::Project && !is_project {
                return bad("a pair names a project, and the place is none");
            }
        }
        let used = whole.len() - body.0.len();
        Ok(Self(whole.get(..used).unwrap_or_default()))
    }

    fn pair(body: &mut Body<'b>) -> Read<PairFacts> {
        let covers = match body.u8()? {
            1 => Covers::Project,
            2 => Covers::Workspace,
            3 => Covers::Everywhere,
            _ => return bad("what a pair covers is 1 (project), 2 (workspace) or 3 (everywhere)"),
        };
        let since = body.sequence()?;
        let scopes = body.mask()?;
        if scopes.is_empty() {
            return bad("a pair without a scope is written");
        }
        Ok(PairFacts { covers, since, scopes })
    }
}

impl Iterator for Pairs<'_> {
    type Item = PairFacts;

    fn next(&mut self) -> Option<PairFacts> {
        if self.0.is_empty() {
            return None;
        }
        let mut body = Body(self.0);
        let pair = Self::pair(&mut body).ok();
        self.0 = body.0;
        pair
    }
}

const IS_PROJECT: u8 = 1;
const IS_PERSONAL: u8 = 1 << 1;
const WORKSPACE_LIVE: u8 = 1 << 2;
const PROJECT_LIVE: u8 = 1 << 3;
const APPROVAL: u8 = 1 << 4;
const PERSONAL_OFF: u8 = 1 << 5;
const BLOCKED: u8 = 1 << 6;
const APPROVED: u8 = 1 << 7;

pub(super) fn read<'b>(body: &mut Body<'b>) -> Read<Facts<'b>> {
    let sequence = body.sequence()?;
    let incarnation = body.u64()?;
    let mut tags = [0; TAGS];
    for tag in &mut tags {
        *tag = body.u64()?;
    }
    let not_before = Timestamp::from_raw(body.u32()?);
    let expiry = Expiry::from_raw(body.u32()?);
    let place = read_place(body)?;
    let pairs = Pairs::read(body, place.project.is_some())?;
    Ok(Facts { head: FactsHead { sequence, incarnation, tags, not_before, expiry, place }, pairs })
}

fn read_place(body: &mut Body<'_>) -> Read<PlaceFacts> {
    let flags = body.u8()?;
    let has = |flag: u8| flags & flag != 0;
    if has(PROJECT_LIVE) && !has(IS_PROJECT) {
        return bad("a membership of a project is told, and the place is none");
    }
    let member =
        |body: &mut Body<'_>, live: bool| Ok(MemberFacts { live, added: body.sequence()?, removed: body.sequence()? });
    let workspace = member(body, has(WORKSPACE_LIVE))?;
    let project = if has(IS_PROJECT) { Some(member(body, has(PROJECT_LIVE))?) } else { None };
    let policy = PolicyFacts {
        mode: if has(APPROVAL) { PolicyMode::ApprovalRequired } else { PolicyMode::AllowAll },
        personal: if has(PERSONAL_OFF) { Switch::Off } else { Switch::On },
        blocked: has(BLOCKED),
        approved: has(APPROVED),
        void_before: body.sequence()?,
    };
    let client = if has(IS_PERSONAL) { ClientKind::Personal } else { ClientKind::App };
    Ok(PlaceFacts { workspace, project, policy, client })
}

/// Appends an answer of facts.
///
/// # Errors
/// [`TooLong`]: more than [`PAIRS_MAX`] pairs; `out` is as it was.
pub fn write(
    out: &mut Vec<u8>,
    id: u32,
    head: &FactsHead,
    pairs: impl IntoIterator<Item = PairFacts>,
) -> Result<(), TooLong> {
    let start = out.len();
    begin_at(out, kind::FACTS_ANSWER, 0, id, head.sequence);
    out.extend_from_slice(&head.incarnation.to_le_bytes());
    head.tags.iter().for_each(|tag| out.extend_from_slice(&tag.to_le_bytes()));
    out.extend_from_slice(&head.not_before.raw().to_le_bytes());
    out.extend_from_slice(&head.expiry.raw().to_le_bytes());
    write_place(out, &head.place);
    let count_at = out.len();
    out.push(0);
    let mut count = 0_u8;
    for pair in pairs.into_iter().filter(|pair| !pair.scopes.is_empty()) {
        let Some(more) = count.checked_add(1) else {
            out.truncate(start);
            return Err(TooLong { what: "the list of pairs that cover the place", allowed: "at most 255" });
        };
        count = more;
        out.push(match pair.covers {
            Covers::Project => 1,
            Covers::Workspace => 2,
            Covers::Everywhere => 3,
        });
        out.extend_from_slice(&pair.since.0.to_le_bytes());
        mask(out, &pair.scopes);
    }
    if let Some(field) = out.get_mut(count_at) {
        *field = count;
    }
    seal(out, start);
    Ok(())
}

fn write_place(out: &mut Vec<u8>, place: &PlaceFacts) {
    let PlaceFacts { workspace, project, policy, client } = place;
    let flags = [
        (IS_PROJECT, project.is_some()),
        (IS_PERSONAL, *client == ClientKind::Personal),
        (WORKSPACE_LIVE, workspace.live),
        (PROJECT_LIVE, project.is_some_and(|project| project.live)),
        (APPROVAL, policy.mode == PolicyMode::ApprovalRequired),
        (PERSONAL_OFF, policy.personal == Switch::Off),
        (BLOCKED, policy.blocked),
        (APPROVED, policy.approved),
    ];
    out.push(flags.into_iter().fold(0, |all, (flag, is_set)| if is_set { all | flag } else { all }));
    for member in [Some(*workspace), *project].into_iter().flatten() {
        out.extend_from_slice(&member.added.0.to_le_bytes());
        out.extend_from_slice(&member.removed.0.to_le_bytes());
    }
    out.extend_from_slice(&policy.void_before.0.to_le_bytes());
}
