//! Certificates, authorities, callers and their secrets are replaced again and again while requests go on at every door:
//! none fails. Neither does one when the MAC keys of journal and snapshots are. And a stop in the middle of many requests leaves none of the accepted ones without an answer.
//!
//! `TOKENSCOPE_ROTATIONS=n` makes n of them (default 8).

mod keys;

use std::fs;
use std::io::{BufReader, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rustix::process::Signal;
use tokenscope::certs::{Authority, LOCAL_NAMES};
use tokenscope::client::near::{NearCache, NearOptions};
use tokenscope::client::{Client, Options};
use tokenscope::domain::TokenDigest;

use super::house::{House, PATIENCE, figure, now, wait_for};
use super::native::options;
use super::web::{Web, base64, encoded, read};

/// What all who ask know of the rotation.
struct Shared {
    over: AtomicBool,
    /// The generation that is in force; whoever asks over HTTPS uses its secret.
    generation: AtomicU64,
    /// The newest generation each of the two HTTPS askers has used.
    used: [AtomicU64; 2],
    /// How many times each has asked.
    asked: [AtomicU64; 6],
    failed: Mutex<Vec<String>>,
}

impl Shared {
    fn new() -> Self {
        Self {
            over: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            used: Default::default(),
            asked: Default::default(),
            failed: Mutex::default(),
        }
    }

    fn asked(&self, who: usize, answer: Result<(), String>) {
        self.asked[who].fetch_add(1, Relaxed);
        if let Err(error) = answer {
            self.failed.lock().unwrap().push(format!("{}: {error}", ASKERS[who]));
        }
    }
}

impl Shared {
    /// How often each has asked.
    fn so_far(&self) -> Vec<u64> {
        self.asked.iter().map(|asked| asked.load(Relaxed)).collect()
    }

    /// Waits until everybody has asked more than so many times from now on, and with the newest secret. A failure ends
    /// the waiting.
    fn wait_until_all_have_asked(&self, times: u64, generation: u64) {
        let before = self.so_far();
        wait_for("everybody to have asked with what is new", || {
            let used = self.used.iter().all(|used| used.load(SeqCst) == generation);
            let asked = self.asked.iter().zip(&before).all(|(asked, before)| asked.load(Relaxed) > before + times);
            (used && asked || !self.failed.lock().unwrap().is_empty()).then_some(())
        });
    }
}

/// Does `what` while everybody asks at every door.
fn under_load(web: &Web, token: &str, shared: &Arc<Shared>, newest: &Arc<Mutex<Options>>, what: impl FnOnce()) {
    std::thread::scope(|scope| {
        for stays in [true, false] {
            scope.spawn(move || over_https(web, token, shared, stays));
        }
        scope.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let ask = |who| natively(|| newest.lock().unwrap().clone(), token, shared, who);
                tokio::join!(ask(0), ask(1), ask(2), ask(3));
            });
        });
        // Whatever happens, the others have to end.
        let _ends = Ends(&shared.over);
        what();
    });
}

const ASKERS: [&str; 6] = [
    "a native connection that stays",
    "another",
    "native connections that come and go",
    "a near-cache",
    "an HTTPS connection that stays",
    "HTTPS connections that come and go",
];

fn secret(generation: u64) -> String {
    format!("the secret of generation {generation}, long enough")
}

/// A request over HTTPS with the secret of this generation.
fn request(token: &str, generation: u64, close: bool) -> String {
    let basic = base64(format!("rotating-{generation}:{}", secret(generation)).as_bytes());
    let body = format!("token={}", encoded(token));
    let connection = if close { "connection: close\r\n" } else { "" };
    format!(
        "POST /introspect HTTP/1.1\r\nhost: localhost\r\nauthorization: Basic {basic}\r\n{connection}\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn judged(answer: std::io::Result<super::web::Answer>) -> Result<(), String> {
    match answer {
        Ok(answer) if answer.status == 200 && answer.text().contains("\"active\":true") => Ok(()),
        Ok(answer) => Err(format!("{} {}", answer.status, answer.text())),
        Err(error) => Err(error.to_string()),
    }
}

/// Asks on one connection for as long as it lasts, over HTTPS.
fn over_https(web: &Web, token: &str, shared: &Shared, stays: bool) {
    let (who, number) = if stays { (4, 0) } else { (5, 1) };
    let mut stream = BufReader::new(web.open());
    while !shared.over.load(SeqCst) {
        let generation = shared.generation.load(SeqCst);
        if !stays {
            stream = BufReader::new(web.open());
        }
        let request = request(token, generation, !stays);
        let sent = stream.get_mut().write_all(request.as_bytes()).and_then(|()| stream.get_mut().flush());
        shared.asked(who, judged(sent.and_then(|()| read(&mut stream))));
        shared.used[number].store(generation, SeqCst);
    }
}

async fn natively(options: impl Fn() -> Options, token: &str, shared: &Shared, who: usize) {
    let connect = || async { Client::connect(options()).await.map_err(|error| error.to_string()) };
    let said = |answer: Result<tokenscope::client::Decision, tokenscope::client::Error>| match answer {
        Ok(decision) if decision.is_allowed() => Ok(()),
        other => Err(format!("{other:?}")),
    };
    match who {
        3 => {
            let cache = NearCache::follow(connect().await.unwrap(), NearOptions::default()).unwrap();
            cache.live(PATIENCE).await.unwrap();
            while !shared.over.load(SeqCst) {
                shared.asked(who, said(cache.check(token, "tasks:read", "1579").await));
                tokio::task::yield_now().await;
            }
        }
        2 => {
            while !shared.over.load(SeqCst) {
                match connect().await {
                    Err(error) => shared.asked(who, Err(error)),
                    Ok(client) => {
                        for _ in 0..5 {
                            shared.asked(who, said(client.check(token, "tasks:read", "1579").await));
                        }
                        client.close().await;
                    }
                }
            }
        }
        _ => {
            let client = connect().await.unwrap();
            while !shared.over.load(SeqCst) {
                shared.asked(who, said(client.check(token, "tasks:read", "1579").await));
            }
            client.close().await;
        }
    }
}

/// The files and callers of a generation, beside those of the one before.
fn write_generation(house: &mut House, generation: u64, plain: &str, authorities: &[String; 2], newest: &Authority) {
    let ours = Authority::open_or_create(&house.certs, "tokenscope development CA", now()).unwrap();
    ours.server(LOCAL_NAMES, now()).unwrap().write(&house.certs, "server").unwrap();
    fs::write(house.certs.join("clients.pem"), authorities.concat()).unwrap();
    let mut text = plain.to_owned();
    for known in generation.saturating_sub(1)..=generation {
        let digest = TokenDigest::of(secret(known).as_bytes()).to_hex();
        text += &format!(
            "\n[[caller]]\nname = \"rotating-{known}\"\nsecret_sha256 = \"{digest}\"\n\
             ask = {{ audiences = \"all\", workspaces = \"all\" }}\n"
        );
    }
    house.configure(|_| text);
    // Whoever connects from now on may be of the new authority: beside the old file, then in its place.
    let new = house.dir.path().join("new");
    fs::create_dir_all(&new).unwrap();
    newest.client("admin", now()).unwrap().write(&new, "admin").unwrap();
}

#[test]
fn certificates_authorities_and_callers_are_replaced_under_load_and_nothing_fails() {
    let rotations: u64 = std::env::var("TOKENSCOPE_ROTATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(8);
    let mut house = House::new();
    house.configure(|text| text.replace("client_ca = \"certs/ca.pem\"", "client_ca = \"certs/clients.pem\""));
    let plain = fs::read_to_string(&house.file.config_file).unwrap();
    let first = Authority::open_or_create(&house.certs, "tokenscope development CA", now()).unwrap();
    let mut authorities = [String::new(), first.certificate_pem().to_owned()];
    write_generation(&mut house, 0, &plain, &authorities, &first);
    house.start();
    let token = house.token("jonas-time").token.clone();
    let shared = Arc::new(Shared::new());
    // What whoever connects anew shows; replaced when the server knows its authority.
    let newest = Arc::new(Mutex::new(options(&house, "admin")));
    let web = house.web();
    let began = Instant::now();
    under_load(&web, &token, &shared, &newest, || {
        for generation in 1..=rotations {
            let authority = Authority::new(&format!("authority {generation}"), now()).unwrap();
            authorities = [std::mem::take(&mut authorities[1]), authority.certificate_pem().to_owned()];
            write_generation(&mut house, generation, &plain, &authorities, &authority);
            let done = house.log().matches("configuration reloaded").count();
            house.signal(Signal::HUP);
            wait_for("the reload", || (house.log().matches("configuration reloaded").count() > done).then_some(()));
            {
                let mut options = newest.lock().unwrap();
                let new = |name: &str| fs::read(house.dir.path().join("new").join(name)).unwrap();
                (options.certificate_pem, options.key_pem) = (new("admin.pem"), new("admin.key"));
            }
            shared.generation.store(generation, SeqCst);
            // The secret before this one goes with the next reload: by then nobody uses it, and everybody has asked.
            shared.wait_until_all_have_asked(10, generation);
        }
    });
    let failed = shared.failed.lock().unwrap();
    let asked = shared.so_far();
    assert!(failed.is_empty(), "{} of {asked:?} failed: {:?}", failed.len(), &failed[..failed.len().min(5)]);
    // What has been replaced for good opens nothing any more.
    let old = house.web().send(request(&token, 0, true).as_bytes()).unwrap();
    assert_eq!(old.status, 401, "the secret of the first generation");
    figure(&format!(
        "{rotations} rotations of the server's certificate, the callers' authority, a caller and its secret in {:.1} s: \
         {} requests {asked:?}, failed 0",
        began.elapsed().as_secs_f64(),
        asked.iter().sum::<u64>(),
    ));
}

/// Ends the others, also when the test fails.
struct Ends<'s>(&'s AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}
