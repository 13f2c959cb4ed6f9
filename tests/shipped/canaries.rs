//! Known tokens, secrets and keys go through everything the program does; then every place where bytes come to rest is
//! searched for them: the data directory, the log, the metrics, the answers, and the process's own memory.
//!
//! What memory may hold is stated in `SECURITY.md`; only what is promised there is asserted here, the rest is printed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde_json::{Value, json};
use tokenscope::client::{Client, NewToken, Revoke, Token};
use tokenscope::domain::{Expiry, GrantId, TokenDigest, TokenTimes};
use tokenscope::secrets::Secrets;

use super::house::{House, figure, now, skipped, wait_for};
use super::native::{options, runtime};
use super::web::{base64, post};

/// What must not be found, under the name it is told by.
#[derive(Default)]
struct Canaries {
    all: Vec<(String, Vec<u8>)>,
    /// By the first two bytes, so that one walk finds them all.
    first: Vec<Vec<usize>>,
}

impl Canaries {
    fn add(&mut self, name: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        if self.first.is_empty() {
            self.first = vec![Vec::new(); 1 << 16];
        }
        let bytes = bytes.into();
        assert!(bytes.len() >= 12, "too short to be found by no accident");
        self.first[usize::from(u16::from_le_bytes([bytes[0], bytes[1]]))].push(self.all.len());
        self.all.push((name.into(), bytes));
    }

    /// Bytes of a secret as they are, and in the ways somebody may have written them.
    fn add_bytes(&mut self, name: &str, bytes: &[u8]) {
        self.add(name, bytes);
        self.add(format!("{name} in hex"), hex(bytes));
        self.add(format!("{name} in capital hex"), hex(bytes).to_uppercase());
        self.add(format!("{name} in base64"), base64(bytes).trim_end_matches('='));
        self.add(format!("{name} as a list"), format!("{bytes:?}").trim_matches(['[', ']']));
    }

    /// A token: its string, and the digest that stands for it on the native protocol.
    fn add_token(&mut self, name: &str, token: &str) {
        self.add(name, token);
        self.add_bytes(&format!("digest of {name}"), TokenDigest::of(token.as_bytes()).as_bytes());
    }

    /// The names of those that stand in `bytes`, with how often.
    fn found_in(&self, bytes: &[u8]) -> BTreeMap<&str, usize> {
        let mut found = BTreeMap::new();
        for (at, pair) in bytes.windows(2).enumerate() {
            for number in &self.first[usize::from(pair[0]) | usize::from(pair[1]) << 8] {
                let (name, canary) = &self.all[*number];
                if bytes[at..].starts_with(canary) {
                    *found.entry(name.as_str()).or_default() += 1;
                }
            }
        }
        found
    }

    fn are_not_in(&self, what: &str, bytes: &[u8]) {
        let found = self.found_in(bytes);
        assert!(found.is_empty(), "in {what}: {found:?}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The memory of a process that may be written, which is where anything it was told is; `None` if the system does not
/// let us look.
fn memory(pid: i32, canaries: &Canaries) -> Option<(u64, BTreeMap<&str, usize>)> {
    const PIECE: usize = 1 << 20;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let memory = File::open(format!("/proc/{pid}/mem")).ok()?;
    let (mut read, mut found) = (0, BTreeMap::new());
    let (mut piece, nothing) = (vec![0; PIECE], vec![0; PIECE]);
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (range, _) = line.split_once(' ')?;
        let (from, to) = range.split_once('-')?;
        let (from, to) = (u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?);
        let mut at = from;
        while at < to {
            let length = usize::try_from(to - at).ok()?.min(PIECE);
            // A page may go while we read; what is gone holds nothing.
            if memory.read_exact_at(&mut piece[..length], at).is_ok() {
                read += length as u64;
                if piece[..length] != nothing[..length] {
                    for (name, times) in canaries.found_in(&piece[..length]) {
                        *found.entry(name).or_default() += times;
                    }
                }
            }
            at += length as u64;
        }
    }
    (read > 0).then_some((read, found))
}

/// Every file below, with its content.
fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    all
}

/// One file of each sort is there to be searched: a scan of nothing finds nothing.
fn kinds(files: &[(String, Vec<u8>)]) -> [usize; 3] {
    ["journal", ".tks", "secrets"].map(|kind| files.iter().filter(|(name, _)| name.contains(kind)).count())
}

#[test]
fn known_tokens_secrets_and_keys_come_to_rest_nowhere() {
    let bearer = "bearer-canary-0123456789abcdef";
    let newcomer = format!(
        "\n[[caller]]\nname = \"gateway\"\nbearer_sha256 = \"{}\"\nask = {{ audiences = \"all\", workspaces = \"all\" }}\n\
         \n[log]\nfilter = \"trace\"\n\n[snapshot]\ninterval = \"1s\"\n",
        TokenDigest::of(bearer.as_bytes()).to_hex()
    );
    let mut house = House::with(&newcomer);
    house.start();
    let mut canaries = Canaries::default();
    let secrets = Secrets::open(&house.data.join("secrets")).unwrap();
    let secrets_file = fs::read(house.data.join("secrets")).unwrap();
    for (name, from, to) in [("the pepper", 16, 32), ("the journal's key", 32, 64), ("the snapshots' key", 64, 96)] {
        canaries.add_bytes(name, &secrets_file[from..to]);
    }
    canaries.add_bytes("the reset key", &secrets.quic_reset);
    canaries.add_bytes("the token key", &secrets.quic_token);
    // Presented as digests alone.
    let native: Vec<String> = (0..4).map(|number| format!("native-canary-{number}-0123456789abcdef")).collect();
    native.iter().for_each(|token| canaries.add_token(token, token));
    // Presented in full: known, revoked, made up, malformed.
    let over_https: Vec<String> =
        ["known", "unknown", "tks_malformed"].map(|kind| format!("{kind}-canary-0123456789abcdef")).into();
    over_https.iter().for_each(|token| canaries.add_token(token, token));
    for token in &house.file.tokens {
        canaries.add_token(&token.name, &token.token);
    }
    for caller in &house.file.callers {
        canaries.add(format!("the secret of {}", caller.name), caller.client_secret.as_bytes());
        let basic = base64(format!("{}:{}", caller.client_id, caller.client_secret).as_bytes());
        canaries.add(format!("the Basic credentials of {}", caller.name), basic.trim_end_matches('='));
    }
    canaries.add("a bearer token", bearer);
    canaries.add("a wrong secret", "wrong-secret-canary-0123456789");

    let mut answers: Vec<Vec<u8>> = Vec::new();
    runtime().block_on(async {
        let client = Client::connect(options(&house, "admin")).await.unwrap();
        let times = TokenTimes { issued: now(), not_before: now(), expiry: Expiry::Never };
        for token in native.iter().chain([&over_https[0]]) {
            let grant = GrantId::new(1).unwrap();
            let new = NewToken { token: Token::from(token), grant, times, confirmation: None, audience: None };
            client.register(&new).await.unwrap();
            client.introspect(token).await.unwrap();
            client.check(token, "tasks:read", "1579").await.unwrap();
            let body = json!({ "sha256": TokenDigest::of(token.as_bytes()).to_hex() }).to_string();
            answers.push(client.api("POST", "/v1/explain", body.as_bytes()).await.unwrap().body);
        }
        client.revoke(Revoke::Token(Token::from(&native[3]))).await.unwrap();
        client.introspect(&native[3]).await.unwrap();
        assert!(client.check("a token nobody knows", "tasks:read", "1579").await.is_ok());
        for path in ["/v1/tokens?subject=maria", "/v1/grants?subject=maria", "/v1/status", "/v1/nothing"] {
            answers.push(client.api("GET", path, b"").await.unwrap().body);
        }
        client.close().await;
    });
    // Minted here: its string is in one answer and nowhere else.
    let (name, secret) = house.secret("admin");
    let minted = house.web().json("/v1/tokens/mint", (&name, &secret), "{\"grant\":\"g1\",\"never_expires\":true}");
    let minted: Value = serde_json::from_slice(&minted.body).unwrap();
    let minted = minted["token"].as_str().unwrap().to_owned();
    canaries.add_token("a minted token", &minted);
    let form = "application/x-www-form-urlencoded";
    let api = house.secret("api");
    let api = (api.0.as_str(), api.1.as_str());
    let web = house.web();
    for token in over_https.iter().chain([&minted]) {
        for body in [
            format!("token={token}"),
            format!("token={token}&token={token}"),
            format!("token={token}&tokenscope_place=%2F{token}&tokenscope_scope={token}"),
            format!("token={token}&token_type_hint={token}&client_id={token}"),
            format!("token={token}%4"),
        ] {
            answers.push(web.send(post("/introspect", Some(api), form, &body).as_bytes()).unwrap().body);
        }
        for caller in [Some((api.0, "wrong-secret-canary-0123456789")), None, Some((token.as_str(), token.as_str()))] {
            let body = format!("token={token}");
            answers.push(web.send(post("/introspect", caller, form, &body).as_bytes()).unwrap().body);
        }
        let get = |path: &str, lines: &str| {
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{lines}\r\n")
        };
        for request in [
            get(&format!("/introspect?token={token}"), ""),
            get(&format!("/authorize?token={token}"), &format!("authorization: Bearer {token}\r\n")),
            get(
                "/authorize",
                &format!("authorization: Bearer {token}\r\ntokenscope-authorization: Bearer {bearer}\r\n"),
            ),
            get(&format!("/v1/tokens/{token}"), &format!("authorization: Bearer {bearer}\r\n")),
            get(&format!("/{token}"), ""),
        ] {
            let answer = web.send(request.as_bytes()).unwrap();
            answers.push(format!("{:?}", answer.headers).into_bytes());
            answers.push(answer.body);
        }
        for body in [json!({ "tokens": [token], "more": token }), json!({ "tokens": token }), json!([token])] {
            answers.push(web.json("/v1/introspect", (&name, &secret), &body.to_string()).body);
        }
    }
    house.revoke(&over_https[0]);
    // A snapshot of all that.
    let taken = house.log().matches("snapshot").count();
    wait_for("a snapshot", || (house.log().matches("snapshot").count() > taken).then_some(()));

    // The answers, headers included, name no token back; nor do the metrics.
    for answer in &answers {
        canaries.are_not_in(&format!("an answer: {}", String::from_utf8_lossy(answer)), answer);
    }
    canaries.are_not_in("the metrics", &house.admin("/metrics").unwrap().body);

    // Memory, while the server lives.
    let pid = house.pid().as_raw_nonzero().get();
    match memory(pid, &canaries) {
        None => skipped("the process's memory: the system does not let a parent look into its child"),
        Some((read, found)) => {
            let mib = read >> 20;
            figure(&format!("canaries: {mib} MiB of the process's memory read, in it: {found:?}"));
            // What was never sent is not there: tokens of the native protocol, and secrets whose callers used
            // their certificates. The configuration has hashes alone.
            let by_certificate = ["owner", "operator", "manager-1579", "manager-1592", "time-tracker"];
            let unused = by_certificate.map(|name| format!("the secret of {name}"));
            for never in native.iter().chain(&unused) {
                assert_eq!(found.get(never.as_str()), None, "{never} is in memory");
            }
            // A scan that finds nothing at all has not looked: the keys the server works with are there.
            assert!(found.contains_key("the pepper") || found.contains_key("the snapshots' key"), "{found:?}");
        }
    }
    assert_eq!(house.stop().code, Some(0));
    let log = house.log();
    assert!(log.len() > 10_000, "a log at trace has more: {}", log.len());
    canaries.are_not_in("the log", log.as_bytes());
    let mut scanned = log.len();
    let all = files(&house.data);
    let [journals, snapshots, secrets] = kinds(&all);
    assert!(
        journals >= 1 && snapshots >= 2 && secrets == 1,
        "{:?}",
        all.iter().map(|(name, _)| name).collect::<Vec<_>>()
    );
    for (name, bytes) in all.iter().filter(|(name, _)| !name.ends_with("/secrets")) {
        scanned += bytes.len();
        canaries.are_not_in(name, bytes);
    }
    // The scan can find something: the one file that has the keys.
    assert_eq!(canaries.found_in(&secrets_file).len(), 5);
    figure(&format!(
        "canaries: {} patterns of tokens, secrets and keys; {} KiB of journal, snapshots and log and {} answers \
         searched: 0 found",
        canaries.all.len(),
        scanned >> 10,
        answers.len()
    ));
}
