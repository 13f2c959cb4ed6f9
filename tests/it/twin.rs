//! A room and the model side by side: told the same, asked the same, and what is said when they differ.

use std::collections::BTreeSet;

use tokenscope::domain::{Denial, Inactive, Place, Timestamp, TokenDigest};
use tokenscope::service::Decision;
use tokenscope::service::request::{ChangeError, ChangeRequest, RevokeTarget};

use crate::dice::Dice;
use crate::face::{Room, Told};
use crate::model::Model;
use crate::scribe::{Scribe, key};
use crate::shrink::shrink;
use crate::workload::{Question, START, Step, a_question, questions_about, tokens};

/// A room and the model beside it, told the same.
pub struct Twin<R> {
    pub room: R,
    pub model: Model,
    scribe: Scribe,
}

impl<R: Room> Twin<R> {
    pub fn new() -> Self {
        Self { room: R::new(), model: Model::default(), scribe: Scribe::new() }
    }

    /// Asks the room for a change; the model follows what the room accepted. Whether it did, or what is wrong with it.
    pub fn change(&mut self, request: &ChangeRequest, now: Timestamp) -> Result<bool, String> {
        let read = self.scribe.read(request);
        let done = self.room.change(request, now);
        match (read, done) {
            (Ok(change), Ok(made)) => {
                let entry = self.scribe.write(change, now);
                if let tokenscope::domain::Change::MakeGrant(grant) = &entry.change
                    && made != Some(grant.id)
                {
                    return Err(format!("{request:?} was given the number {made:?}, not {}", grant.id));
                }
                self.model.apply(&entry);
                Ok(true)
            }
            // A repeated registration may be taken as done already.
            (Err(ChangeError::Conflict(_)), Ok(_)) | (Err(_), Err(_)) => Ok(false),
            (Err(why), Ok(_)) => Err(format!("{request:?} was accepted, but cannot be meant: {why}")),
            (Ok(_), Err(why)) if self.must_be_accepted(request) => Err(format!("{request:?} was refused: {why}")),
            (Ok(_), Err(why @ (ChangeError::Busy | ChangeError::Unavailable(_) | ChangeError::Unknown(_)))) => {
                Err(format!("{request:?} failed: {why}"))
            }
            (Ok(_), Err(_)) => Ok(false),
        }
    }

    /// What takes something away from somebody known is never refused.
    fn must_be_accepted(&self, request: &ChangeRequest) -> bool {
        use ChangeRequest as Ask;
        match request {
            Ask::SwitchClient(whom, _) => self.model.has_grant_of(None, Some(whom)),
            Ask::SwitchSubject(who, _) => self.model.has_grant_of(Some(who), None),
            Ask::RemoveMember(who, place) => self.model.memberships(who.as_str()).contains(place),
            Ask::SetPolicyMode(..) | Ask::SwitchPersonal(..) | Ask::SetPolicyEntry(..) => true,
            Ask::Revoke(target) => match target {
                RevokeTarget::Subject(who) => self.model.has_grant_of(Some(who), None),
                RevokeTarget::Client(whom) => self.model.has_grant_of(None, Some(whom)),
                RevokeTarget::SubjectClient(who, whom) => self.model.has_grant_of(Some(who), Some(whom)),
                RevokeTarget::WorkspaceClient(..) | RevokeTarget::IssuedBefore(..) => false,
                RevokeTarget::Token(_) | RevokeTarget::Handle(_) | RevokeTarget::Grant(_) => true,
            },
            _ => false,
        }
    }

    /// Asks both; what kinds of answer it was, or how they differ.
    pub fn compare(&self, question: &Question, now: Timestamp) -> Result<Vec<Bucket>, String> {
        let (token, right, bucket, told) = match question {
            Question::Check { token, scope, place } => {
                let told = self.room.check(token, scope, place, now);
                let due = self.model.check(key(token), scope, place, now);
                let right = match (told, due) {
                    (Decision::Inactive(reason), Decision::Inactive(_)) => self.may_say(token, reason, now),
                    // What is no place at all is denied; why is a matter of taste.
                    (Decision::Denied(_), Decision::Denied(_)) if Place::parse(place).is_err() => true,
                    _ => told == due,
                };
                (token, right, Bucket::of(due), format!("{told:?}, but {due:?} is right"))
            }
            Question::Introspect { token, place } => {
                let told = self.room.introspect(token, *place, now);
                let due = self.model.introspect(key(token), *place, now);
                let right = match (&told, &due) {
                    (Told::Inactive(reason), Told::Inactive(Inactive::NothingLeft)) => *reason == Inactive::NothingLeft,
                    (Told::Inactive(reason), Told::Inactive(_)) => self.may_say(token, *reason, now),
                    _ => told == due,
                };
                let bucket = match &due {
                    Told::Active(_) => Bucket::Active,
                    Told::Inactive(reason) => Bucket::Inactive(*reason),
                };
                (token, right, bucket, format!("{told:#?},\nbut this is right: {due:#?}"))
            }
        };
        let number = tokens().position(|known| known == *token).unwrap_or(usize::MAX);
        let reasons = self.model.reasons(key(token), now).into_iter().map(Bucket::Inactive);
        if right {
            Ok(reasons.chain([bucket]).collect())
        } else {
            Err(format!("token {number} at {now}: {question:?}\nanswer: {told}"))
        }
    }

    /// Of several reasons any may be given; and what is over may have been forgotten.
    fn may_say(&self, token: &TokenDigest, reason: Inactive, now: Timestamp) -> bool {
        let reasons = self.model.reasons(key(token), now);
        reasons.contains(&reason)
            || (reason == Inactive::Unknown && reasons.contains(&Inactive::Expired))
            // Revoked before anybody registered it: the service remembers that, the model has no such token.
            || (reason == Inactive::TokenRevoked && reasons.contains(&Inactive::Unknown))
    }
}

/// Kinds of answers, to see that the generator reaches them all.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Bucket {
    Active,
    Allowed,
    Denied(Denial),
    Inactive(Inactive),
}

impl Bucket {
    fn of(decision: Decision) -> Self {
        match decision {
            Decision::Allowed => Self::Allowed,
            Decision::Denied(denial) => Self::Denied(denial),
            Decision::Inactive(reason) => Self::Inactive(reason),
        }
    }
}

/// A difference between a room and the model.
pub struct Failure {
    /// What is wrong.
    complaint: String,
    /// After so many changes.
    after: usize,
    /// The question that showed it, and when; if none, a change did.
    asked: Option<(Question, Timestamp)>,
}

impl Failure {
    /// The story, with the list made short.
    pub fn told<R: Room>(self, steps: &[Step]) -> String {
        let fails = |steps: &[Step]| -> Option<String> {
            let mut twin = Twin::<R>::new();
            for (request, now) in steps {
                match twin.change(request, *now) {
                    Err(complaint) if self.asked.is_none() => return Some(complaint),
                    Err(_) => return None,
                    Ok(_) => {}
                }
            }
            let (question, now) = self.asked.as_ref()?;
            twin.compare(question, *now).err()
        };
        shrink(steps[..self.after].to_vec(), self.complaint.clone(), fails)
    }
}

/// Plays the list to both, asking all along.
pub fn put_beside_the_model<R: Room>(
    dice: &mut Dice,
    steps: &[Step],
    reached: &mut BTreeSet<Bucket>,
) -> Result<(), Failure> {
    let mut twin = Twin::<R>::new();
    let mut ask = |twin: &Twin<R>, after: usize, question: Question, now: Timestamp| {
        let buckets = twin.compare(&question, now);
        let buckets = buckets.map_err(|complaint| Failure { complaint, after, asked: Some((question, now)) })?;
        reached.extend(buckets);
        Ok(())
    };
    for (number, (request, now)) in steps.iter().enumerate() {
        let after = number + 1;
        twin.change(request, *now).map_err(|complaint| Failure { complaint, after, asked: None })?;
        for _ in 0..12 {
            ask(&twin, after, a_question(dice), *now)?;
        }
    }
    let all: Vec<TokenDigest> = tokens().collect();
    for seconds in [0, 1, 30, 400] {
        for question in questions_about(dice.pick(&all)) {
            ask(&twin, steps.len(), question, end_of(steps).plus(seconds))?;
        }
    }
    Ok(())
}

/// The moment of the last change.
pub fn end_of(steps: &[Step]) -> Timestamp {
    steps.last().map_or(Timestamp::from_raw(START), |(_, now)| *now)
}
