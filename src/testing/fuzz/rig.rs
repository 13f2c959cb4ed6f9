//! A service with one live token in it, behind the door without a socket; made once for each process.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use tokio::runtime::{Builder, Runtime};

use crate::clock::Clock;
use crate::domain::mint::TokenPrefix;
use crate::domain::{CallerId, ClientId, Expiry, GrantId, Place, Reach, SubjectId, Timestamp, TokenDigest, TokenTimes};
use crate::server::Shared;
use crate::server::credentials::{Callers, CredentialsOf};
use crate::server::http::{Face, OauthSettings};
use crate::server::stats::Stats;
use crate::service::caller::{AskRight, Caller, Only, Rights};
use crate::service::request::{ChangeRequest, TokenTerms};
use crate::store::Control;
use crate::testing::{almighty, service};

/// The moment at which everything happens.
pub(super) const NOW: Timestamp = Timestamp::from_raw(1_700_000_000);
/// The one token that is active. It has no prefix of ours, so that no checksum stands before it.
pub(super) const LIVE: &str = "live+token/1=";
/// The credentials of the caller `api`, as the header carries them: `api:secret`.
pub(super) const BASIC: &[u8] = b"Basic YXBpOnNlY3JldA==";
/// The secret alone.
pub(super) const SECRET: &str = "secret";

pub(super) struct Rig {
    pub(super) runtime: Runtime,
    pub(super) face: Face,
    pub(super) shared: Shared,
    /// Keeps the writer going.
    _control: Control,
}

/// A caller without any right.
pub(super) fn nobody() -> Caller {
    Caller { id: CallerId::parse("nobody").expect("an id"), rights: Rights::default() }
}

/// A caller who may ask, and nothing else.
pub(super) fn asker() -> Caller {
    let ask = Some(AskRight { audiences: Only::All, workspaces: Only::All });
    Caller { id: CallerId::parse("api").expect("an id"), rights: Rights { ask, ..Rights::default() } }
}

/// One subject, one client, one grant of `tasks:read` at `1579`, one live token.
fn facts() -> [ChangeRequest; 6] {
    let subject = SubjectId::parse("u1").expect("an id");
    let client = ClientId::parse("app").expect("an id");
    let place = Place::parse("1579").expect("a place");
    let times = TokenTimes { issued: NOW.minus(60), not_before: NOW.minus(60), expiry: Expiry::Never };
    let grant = GrantId::new(1).expect("a number");
    [
        ChangeRequest::RegisterClient(client.clone()),
        ChangeRequest::AddScope("tasks:read".into()),
        ChangeRequest::AddScope("tasks:write".into()),
        ChangeRequest::AddMember(subject.clone(), place.clone()),
        ChangeRequest::MakeGrant {
            subject,
            client,
            access: vec![(Reach::At(place), vec!["tasks:read".into()])],
            expiry: Expiry::Never,
            audience: Vec::new(),
        },
        ChangeRequest::RegisterToken {
            digest: TokenDigest::of(LIVE.as_bytes()),
            token: TokenTerms { grant, times, audience: None, confirmation: None, narrowed: None },
        },
    ]
}

/// The rig of this process.
pub(super) fn rig() -> &'static Rig {
    static RIG: OnceLock<Rig> = OnceLock::new();
    RIG.get_or_init(|| {
        let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
        let (service, _, control) = service();
        for change in facts() {
            runtime.block_on(service.change(&almighty(), change, NOW)).expect("a change that can be made");
        }
        let secret_sha256 = Some(*TokenDigest::of(SECRET.as_bytes()).as_bytes());
        let shows = CredentialsOf { secret_sha256, ..CredentialsOf::default() };
        let shared = Shared {
            service,
            callers: Arc::new(ArcSwap::from_pointee(Callers::new(vec![(asker(), shows)]))),
            clock: Clock::manual(NOW),
            stats: Arc::new(Stats::default()),
        };
        let settings = OauthSettings {
            issuer: "https://issuer.example".into(),
            base_url: "https://issuer.example".into(),
            prefix: TokenPrefix::parse("tks").expect("a prefix"),
            realm: "tokenscope".into(),
            base_document: None,
            client_certificates: true,
            revocation_wait: crate::server::Wait::Applied,
        };
        let face = Face::new(shared.clone(), settings);
        Rig { runtime, face, shared, _control: control }
    })
}
