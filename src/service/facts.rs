//! What decides about a token at a place, for whoever keeps it in memory and decides there.
//!
//! The same rights, the same look at the token, the same pairs and the same facts of the place as for a check
//! (`introspect.rs`); only the last step, the decision about one scope, is left to whoever asked. So what is held decides as
//! the service does, for any scope, until one of its tags is touched or its times are over.
//!
//! Which way it falls: a token that is not active for this caller gives no facts, and nothing is said about it that
//! could be held.

use super::caller::Caller;
use super::introspect::{alive, covering, earlier, steadily, workspace_of};
use super::{Refusal, Service};
use crate::domain::access::{PairFacts, PlaceFacts};
use crate::domain::{Expiry, Inactive, Timestamp, TokenKey};
use crate::feed::{Dependence, Tag};
use crate::index::Pin;

/// What decides about an active token at a place, beside the pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FactsThere {
    /// What it depends on: token, grant, subject, client, workspace.
    pub tags: [Tag; 5],
    /// Good from here on.
    pub not_before: Timestamp,
    /// Good until then: the earlier of the token's and the grant's end.
    pub expiry: Expiry,
    /// Membership and policy there.
    pub place: PlaceFacts,
}

impl Service {
    /// What decides about this token at `place`. The pairs of its grant that cover the place, cut to what the token was
    /// narrowed to, are put into `pairs`, which is emptied first and kept by a session so that nothing is allocated.
    ///
    /// `Ok(Err(_))`: the token is not active for this caller; the reason is for the operator's counters.
    ///
    /// # Errors
    /// No verdict: see [`Refusal`].
    pub fn facts(
        &self,
        pin: &Pin<'_>,
        caller: &Caller,
        key: TokenKey,
        place: &str,
        now: Timestamp,
        pairs: &mut Vec<PairFacts>,
    ) -> Result<Result<FactsThere, Inactive>, Refusal> {
        let ask = caller.rights.ask.as_ref().ok_or(Refusal::MayNotAsk)?;
        let workspace = workspace_of(place);
        if !ask.workspaces.includes(workspace) {
            return Err(Refusal::MayNotAskThere);
        }
        let spot = pin.spot(place);
        let found = steadily(pin, || {
            pairs.clear();
            let alive = alive(pin, key, Some(ask), now)?;
            pairs.extend(covering(pin, &alive, spot).filter(|pair| !pair.scopes.is_empty()));
            Ok((alive, pin.place_facts(&alive.grant, spot)))
        });
        let (alive, place) = match found {
            Ok(found) => found,
            Err(reason) => return Ok(Err(reason)),
        };
        alive.token.mark_used(now);
        let depends_on = Dependence {
            token: key,
            grant: alive.grant.id,
            subject: pin.subject_text(alive.grant.subject),
            client: pin.client_text(alive.grant.client),
            workspace,
        };
        Ok(Ok(FactsThere {
            tags: self.feed().tagger().tags_of(&depends_on),
            not_before: alive.token.times.not_before,
            expiry: earlier(alive.token.times.expiry, alive.grant.facts.expiry),
            place,
        }))
    }
}
