//! Stock OAuth clients, from `dev.json` alone: introspection (RFC 7662), revocation (RFC 7009), and the next
//! introspection is exactly `{"active":false}`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::house::{PROGRAM, figure, run, skipped, wait_for};
use super::web::{Web, plain};

/// `tokenscope dev` on a new directory, as a person starts it.
struct Dev {
    child: Child,
    pub json: PathBuf,
    _dir: tempfile::TempDir,
}

impl Dev {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(PROGRAM);
        command.args(["dev", "--tokens", "20", "--port", "0", "--data-dir"]).arg(dir.path());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let json = dir.path().join("dev.json");
        wait_for("the development server", || {
            assert_eq!(child.try_wait().unwrap(), None, "it ended");
            let file: Value = serde_json::from_slice(&std::fs::read(&json).ok()?).ok()?;
            let ready = plain(address(&file, "admin"), "GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
            (ready.status == 200).then_some(())
        });
        Self { child, json, _dir: dir }
    }

    fn file(&self) -> Value {
        serde_json::from_slice(&std::fs::read(&self.json).unwrap()).unwrap()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn address(file: &Value, name: &str) -> SocketAddr {
    file[name].as_str().unwrap().parse().unwrap()
}

fn entry<'f>(file: &'f Value, list: &str, name: &str) -> &'f Value {
    file[list].as_array().unwrap().iter().find(|it| it["name"] == name).unwrap()
}

#[test]
fn a_client_of_the_standards_introspects_revokes_and_sees_active_false() {
    let dev = Dev::start();
    let file = dev.file();
    let web = Web::new(address(&file, "https"), Path::new(file["ca_file"].as_str().unwrap()));
    let caller = |name| {
        let caller = entry(&file, "callers", name);
        (caller["client_id"].as_str().unwrap(), caller["client_secret"].as_str().unwrap())
    };
    // Each sample token answers as the file says it does.
    for token in file["tokens"].as_array().unwrap() {
        let text = token["token"].as_str().unwrap();
        let answer = web.form("/introspect", caller("api"), &[("token", text)]);
        let told: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status, &told["active"]), (200, &token["active"]), "{token}: {told}");
        if token["active"] == true {
            assert_eq!((&told["sub"], &told["client_id"]), (&token["subject"], &token["client_id"]), "{told}");
        } else {
            assert_eq!(answer.text(), "{\"active\":false}");
        }
        for check in token["checks"].as_array().unwrap() {
            let (scope, place) = (check["scope"].as_str().unwrap(), check["place"].as_str().unwrap());
            let question = [("token", text), ("tokenscope_scope", scope), ("tokenscope_place", place)];
            let answer = web.form("/introspect", caller("api"), &question);
            let told: Value = serde_json::from_slice(&answer.body).unwrap();
            let decision = &told["tokenscope_decision"];
            let said = if decision["allowed"] == true { &Value::from("allowed") } else { &decision["reason"] };
            assert_eq!(said, &check["expect"], "{token}: {told}");
        }
    }
    let mine = entry(&file, "tokens", "maria-time")["token"].as_str().unwrap();
    let revoked = web.form("/revoke", caller("time-tracker"), &[("token", mine), ("token_type_hint", "access_token")]);
    assert_eq!((revoked.status, revoked.body.len()), (200, 0), "{revoked:?}");
    let answer = web.form("/introspect", caller("api"), &[("token", mine)]);
    assert_eq!((answer.status, answer.text().as_str()), (200, "{\"active\":false}"));
    assert!(answer.header("content-type").unwrap().starts_with("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    // RFC 7009: twice is as good as once, and an unknown token is no error.
    for token in [mine, "nobody knows this one"] {
        assert_eq!(web.form("/revoke", caller("time-tracker"), &[("token", token)]).status, 200);
    }
    // The metadata leads to the same two (RFC 8414).
    let metadata =
        web.send(b"GET /.well-known/oauth-authorization-server HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let metadata: Value = serde_json::from_slice(&metadata.body).unwrap();
    assert_eq!(metadata["introspection_endpoint"], format!("{}/introspect", file["https_url"].as_str().unwrap()));

    kill_process(Pid::from_child(&dev.child), Signal::TERM).unwrap();
    let mut dev = dev;
    let status = wait_for("the end of dev", || dev.child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0), "Ctrl-C and TERM are how one ends it");
}

/// The second `dev` found the directory in use only after it had chosen other ports and written them down: `dev.json`
/// then led nowhere while the first server went on.
#[test]
fn a_second_dev_on_the_same_directory_leaves_the_first_ones_file_alone() {
    let dev = Dev::start();
    let before = dev.file();
    let directory = dev.json.parent().unwrap().to_str().unwrap();
    let ran = run(&["dev", "--tokens", "20", "--data-dir", directory], "", &[]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{ran:?}");
    assert!(ran.err.contains("in use by another process"), "{ran:?}");
    assert_eq!(dev.file(), before);
    assert_eq!(run(&["status", "--json"], "", &[("TOKENSCOPE_DEV", &dev.json)]).code, Some(0));
}

/// The crate `oauth2`, with the tests' own HTTPS below it.
#[test]
fn the_oauth2_crate_introspects_revokes_and_sees_active_false() {
    use oauth2::basic::BasicClient;
    use oauth2::{
        AccessToken, ClientId, ClientSecret, HttpRequest, HttpResponse, IntrospectionUrl, RevocationUrl,
        StandardRevocableToken, TokenIntrospectionResponse as _,
    };

    let dev = Dev::start();
    let file = dev.file();
    let web = Web::new(address(&file, "https"), Path::new(file["ca_file"].as_str().unwrap()));
    let http = |request: HttpRequest| -> std::io::Result<HttpResponse> {
        let (method, path) = (request.method(), request.uri().path());
        let mut bytes = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n").into_bytes();
        for (name, value) in request.headers() {
            bytes.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        bytes.extend(format!("content-length: {}\r\n\r\n", request.body().len()).bytes());
        bytes.extend(request.body());
        let answer = web.send(&bytes)?;
        let mut response = oauth2::http::Response::builder().status(answer.status);
        for (name, value) in &answer.headers {
            response = response.header(name, value);
        }
        Ok(response.body(answer.body).unwrap())
    };
    let client = |name: &str| {
        let caller = entry(&file, "callers", name);
        let text = |field: &str| caller[field].as_str().unwrap().to_owned();
        let url = |path: &str| format!("{}{path}", file["https_url"].as_str().unwrap());
        BasicClient::new(ClientId::new(text("client_id")))
            .set_client_secret(ClientSecret::new(text("client_secret")))
            .set_introspection_url(IntrospectionUrl::new(url("/introspect")).unwrap())
            .set_revocation_url(RevocationUrl::new(url("/revoke")).unwrap())
    };
    let sample = entry(&file, "tokens", "maria-time");
    let token = AccessToken::new(sample["token"].as_str().unwrap().to_owned());
    let told = client("api").introspect(&token).request(&http).unwrap();
    assert!(told.active());
    assert_eq!(told.sub(), sample["subject"].as_str());
    assert_eq!(told.client_id().map(|id| id.as_str()), sample["client_id"].as_str());
    assert!(told.exp().is_some() && told.scopes().is_some_and(|scopes| scopes.len() == 3), "{told:?}");
    let revocation = client("time-tracker");
    revocation.revoke_token(StandardRevocableToken::from(&token)).unwrap().request(&http).unwrap();
    // What the crate itself read of the answer: nothing but "not active".
    let told = client("api").introspect(&token).request(&http).unwrap();
    assert_eq!(serde_json::to_value(&told).unwrap(), serde_json::json!({ "active": false }));
    // Somebody who may not ask is refused as RFC 6749 says, which the crate understands.
    assert!(client("time-tracker").introspect(&token).request(&http).is_err());
    figure("oauth2 (Rust): introspection, revocation, and then active: false");
}

/// The versions stand in `tests/clients/node/package.json`, `tests/clients/node/package-lock.json` and
/// `tests/clients/requirements.txt`. What `tests/clients/install` has put into the target directory, if it was run and could: this file or folder of it.
fn installed(inside: &str) -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    Some(target.join("stock-clients").join(inside)).filter(|path| path.exists())
}

/// `openid-client` from npm: below the directory `TOKENSCOPE_NODE_MODULES` names, where `tests/clients/install` puts it, or
/// installed globally.
#[test]
fn the_stock_javascript_client_introspects_revokes_and_sees_active_false() {
    if !super::house::is_installed("node") {
        return skipped("a stock client in JavaScript: no node here");
    }
    let dev = Dev::start();
    let file = dev.file();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/stock.mjs");
    let mut command = Command::new("node");
    // The one way there is to give node another authority.
    command.arg(script).arg(&dev.json).env("NODE_EXTRA_CA_CERTS", file["ca_file"].as_str().unwrap());
    if std::env::var_os("TOKENSCOPE_NODE_MODULES").is_none()
        && let Some(modules) = installed("node_modules")
    {
        command.env("TOKENSCOPE_NODE_MODULES", modules);
    }
    let ran = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{out}{err}");
    for line in out.lines() {
        match line.strip_prefix("SKIPPED: ") {
            Some(what) => skipped(what),
            None => figure(line),
        }
    }
}

/// Those that `tests/clients/install` has put into an environment of their own, or the system's.
#[test]
fn stock_python_clients_introspect_revoke_and_see_active_false() {
    let system = || ["python3", "python"].into_iter().find(|it| super::house::is_installed(it)).map(PathBuf::from);
    let Some(python) = installed("python/bin/python").or_else(system) else {
        return skipped("stock clients in Python: no python3 here");
    };
    let dev = Dev::start();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/stock.py");
    let ran = Command::new(python).arg(script).arg(&dev.json).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{out}{err}");
    for line in out.lines() {
        match line.strip_prefix("SKIPPED: ") {
            Some(what) => skipped(what),
            None => figure(line),
        }
    }
}
