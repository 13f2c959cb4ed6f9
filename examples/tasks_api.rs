//! A small API server, tasks in workspaces, protected by Tokenscope: allowed or not is answered from its own memory.
//!
//! * `cargo run --example tasks_api -- --story` starts a development server of its own beside it on free loopback ports,
//!   plays a story through both, and says what was asked, what came and how long it took. It fails if anything was
//!   otherwise than told.
//! * `TOKENSCOPE_DEV=…/dev.json cargo run --example tasks_api` serves on 127.0.0.1:8080 against a `tokenscope dev` that runs.
//!
//! The whole of the protection is `router`: reading goes through the layer, writing through the extractor, which also knows
//! who writes. The rest is the story.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Path as InPath;
use axum::routing::get;
use tokenscope::client::layer::{Admitted, Gate, Needs, PatternError, Refused, RequireScope};
use tokenscope::client::{Client, Introspects, NearCache, NearOptions, Options, Revoke, Token, Wait};
use tokenscope::dev::file::DevFile;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Writing tasks: what it needs, and where.
struct WriteTasks;

impl Needs for WriteTasks {
    const SCOPE: &str = "tasks:write";
    const PATH: &str = "/workspaces/{workspace}/tasks";
}

/// Whose token it is, memory does not know: that is one question to the server.
async fn write(may: Admitted<WriteTasks>) -> Result<String, Refused> {
    let who = may.who().await?;
    Ok(format!("a new task in {} by {} through {}\n", may.workspace(), who.subject, who.client))
}

/// The API. Whoever decides is an argument, so that tests can put a `client::Fake` in its place.
fn router<C: Introspects>(checks: C) -> Result<Router, PatternError> {
    let reads = RequireScope::new(checks.clone(), "tasks:read", WriteTasks::PATH)?;
    let reading = get(async |InPath(workspace): InPath<String>| format!("the tasks of {workspace}\n"));
    // What is added after a layer does not lie behind it.
    let tasks = reading.route_layer(reads).post(write);
    Ok(Router::new().route(WriteTasks::PATH, tasks).with_state(Gate::new(checks)))
}

/// A client of the server that wrote this file, as this caller.
async fn connect(file: &DevFile, caller: &str) -> Outcome<Client> {
    let caller = file.caller(caller).ok_or("no such caller in dev.json")?;
    let [ca, certificate, key] = [&file.ca_file, &caller.certificate_file, &caller.key_file].map(std::fs::read);
    let servers = vec![(file.quic, file.server_name.clone())];
    Ok(Client::connect(Options::new(servers, ca?, certificate?, key?)).await?)
}

fn main() -> Outcome<std::process::ExitCode> {
    // The story runs this program once more, as its server.
    if std::env::args().nth(1).as_deref() == Some("dev") {
        return Ok(tokenscope::cli::main(&tokenscope::cli::house::House));
    }
    let runtime = tokio::runtime::Runtime::new()?;
    if std::env::args().any(|argument| argument == "--story") {
        runtime.block_on(story())?;
        println!("\nEverything was as told.");
    } else {
        runtime.block_on(serve())?;
    }
    Ok(std::process::ExitCode::SUCCESS)
}

async fn serve() -> Outcome<()> {
    let path = std::env::var_os("TOKENSCOPE_DEV").ok_or("TOKENSCOPE_DEV has to name the dev.json of a server")?;
    let file = DevFile::read(Path::new(&path)).map_err(|failure| failure.message)?;
    let cache = NearCache::follow(connect(&file, "api").await?, NearOptions::default())?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    println!("http://{}/workspaces/1579/tasks", listener.local_addr()?);
    Ok(axum::serve(listener, router(cache)?).await?)
}

// ---- the story ----

/// A development server, killed at the end.
struct Server {
    child: Child,
    file: DevFile,
}

impl Server {
    fn start(folder: &Path) -> Outcome<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["dev", "--tokens", "0", "--port", "0", "--data-dir"])
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let output = child.stdout.take().ok_or("no output of the server")?;
        // What it says when it is ready ends with the output of a server that failed.
        let ready = BufReader::new(output).lines().map_while(Result::ok).any(|line| line.contains("is ready"));
        if !ready {
            let _ = child.wait();
            return Err("the development server did not start".into());
        }
        let file = DevFile::read(&folder.join("dev.json")).map_err(|failure| failure.message)?;
        Ok(Self { child, file })
    }

    fn token(&self, name: &str) -> Outcome<String> {
        let found = self.file.tokens.iter().find(|token| token.name == name);
        Ok(found.ok_or("the story has no such token")?.token.clone())
    }

    /// Without warning.
    fn kill(&mut self) -> Outcome<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Somebody with a token, at the API's door.
#[derive(Clone, Copy)]
struct Visitor {
    api: SocketAddr,
}

impl Visitor {
    /// Status and challenge of the answer, or its text if there is no challenge.
    fn asks(self, method: &str, path: &str, token: Option<&str>) -> Outcome<(u16, String)> {
        let mut stream = TcpStream::connect(self.api)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let token = token.map_or(String::new(), |token| format!("Authorization: Bearer {token}\r\n"));
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: tasks\r\n{token}Content-Length: 0\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or("no HTTP answer")?;
        let challenge = answer.lines().find_map(|line| line.strip_prefix("www-authenticate: "));
        let text = answer.split_once("\r\n\r\n").map_or("", |(_, text)| text.trim_end());
        Ok((status, challenge.unwrap_or(text).to_owned()))
    }

    /// Asks, says what came, and insists on what was expected.
    async fn finds(self, story: &str, ask: (&str, &str, Option<&str>), status: u16, said: &str) -> Outcome<()> {
        let (method, path, token) = (ask.0.to_owned(), ask.1.to_owned(), ask.2.map(str::to_owned));
        let began = Instant::now();
        let (method_asked, path_asked) = (method.clone(), path.clone());
        let (got, told) = tokio::task::spawn_blocking(move || self.asks(&method, &path, token.as_deref())).await??;
        println!(
            "  {story}\n      {method_asked} {path_asked}  ->  {got}  {told}   ({:.1} ms)",
            began.elapsed().as_secs_f64() * 1e3
        );
        if got == status && told.contains(said) {
            return Ok(());
        }
        Err(format!("{story}: expected {status} with {said:?}, got {got} with {told:?}").into())
    }
}

async fn story() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let home = folder.path().to_owned();
    let mut server = tokio::task::spawn_blocking(move || Server::start(&home)).await??;
    let tokens = ["maria-time", "jonas-time", "maria-personal"].map(|name| server.token(name));
    let [maria, jonas, personal] = tokens;
    let (maria, jonas, personal) = (maria?, jonas?, personal?);
    let [maria, jonas, personal] = [&maria, &jonas, &personal].map(|token| Some(token.as_str()));

    // The API server: in real life the whole of it is these five lines.
    let cache = NearCache::follow(connect(&server.file, "api").await?, NearOptions::default())?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let visitor = Visitor { api: listener.local_addr()? };
    let api = axum::serve(listener, router(cache.clone())?);
    tokio::spawn(async move { api.await });

    let admin = connect(&server.file, "admin").await?;
    cache.live(Duration::from_secs(10)).await?;
    let (tasks, elsewhere) = ("/workspaces/1579/tasks", "/workspaces/1592/tasks");

    println!("\nWho may do what");
    visitor.finds("maria's app reads her tasks", ("GET", tasks, maria), 200, "").await?;
    visitor.finds("it may not write them", ("POST", tasks, maria), 403, r#"scope="tasks:write""#).await?;
    visitor.finds("nor read in a workspace it was not given", ("GET", elsewhere, maria), 403, "not given").await?;
    let by_maria = "a new task in 1592 by maria through personal";
    visitor
        .finds("her own token writes there, and the API knows who", ("POST", elsewhere, personal), 200, by_maria)
        .await?;
    visitor.finds("without a token", ("GET", tasks, None), 401, "Bearer").await?;
    visitor.finds("with what cannot be a token", ("GET", tasks, Some("made up")), 400, "invalid_request").await?;
    visitor.finds("with a token nobody knows", ("GET", tasks, Some("made-up")), 401, "invalid_token").await?;

    println!("\nFrom memory");
    let (token, before) = (Token::from(maria.unwrap_or_default()), cache.counters().hits);
    let began = Instant::now();
    for _ in 0..100_000 {
        if cache.held(token, "tasks:read", "1579").is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let (hits, took) = (cache.counters().hits - before, began.elapsed());
    println!("  {hits} answers in {:.1} ms, none of them over the network", took.as_secs_f64() * 1e3);
    if hits < 50_000 {
        return Err(format!("only {hits} of 100000 questions were answered from memory").into());
    }

    println!("\nThe workspace's admin blocks the app");
    let policy = "/v1/policies/1579/entries?wait=fenced";
    let blocked = changed(&admin, policy, br#"{"client":"time-tracker","entry":"block"}"#).await?;
    println!(
        "  fenced after {blocked:.1} ms (a server that has just started waits a lease for those it does not know)"
    );
    visitor.finds("maria's app, the moment after", ("GET", tasks, maria), 403, "blocked the app").await?;
    visitor.finds("jonas' too", ("GET", tasks, jonas), 403, "blocked the app").await?;
    changed(&admin, policy, br#"{"client":"time-tracker","entry":"unblock"}"#).await?;
    visitor.finds("unblocked: exactly what was there", ("GET", tasks, maria), 200, "").await?;

    println!("\nMaria's token is revoked");
    let began = Instant::now();
    admin.revoke_and_wait(Revoke::Token(token), Wait::Fenced).await?;
    println!("  fenced after {:.1} ms", began.elapsed().as_secs_f64() * 1e3);
    visitor.finds("the moment after", ("GET", tasks, maria), 401, "invalid_token").await?;
    visitor.finds("jonas' goes on", ("GET", tasks, jonas), 200, "").await?;

    println!("\nThe server is killed");
    let lease = cache.counters().lease_left;
    server.kill()?;
    let died = Instant::now();
    visitor.finds("jonas', while the lease runs", ("GET", tasks, jonas), 200, "").await?;
    let patience = lease + Duration::from_secs(5);
    while cache.is_live() {
        if died.elapsed() > patience {
            return Err(format!("a lease of {lease:?} has not ended after {:?}", died.elapsed()).into());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("  the lease ended {:.0} ms after the server (it had {:.0} ms left)", ms(died.elapsed()), ms(lease));
    visitor.finds("no lease, no server, no verdict", ("GET", tasks, jonas), 503, "").await?;
    Ok(())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Makes a change and says how many milliseconds that took.
async fn changed(admin: &Client, path: &str, body: &[u8]) -> Outcome<f64> {
    let began = Instant::now();
    let answer = admin.api("POST", path, body).await?;
    if answer.status >= 300 {
        return Err(format!("{path}: {} {}", answer.status, String::from_utf8_lossy(&answer.body)).into());
    }
    Ok(ms(began.elapsed()))
}
