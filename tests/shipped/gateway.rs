//! nginx in front of an API, asking before it forwards: the recipe in `src/server/http/authorize.rs`, by a real nginx.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use super::house::{House, free_port, is_installed, skipped, wait_for};
use super::web::{Answer, base64, plain};

struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its one worker ends with it: TERM first, so that it is told.
        let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&self.0), rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}

fn configuration(house: &House, gateway: u16, upstream: u16) -> String {
    let (name, secret) = house.secret("api");
    let dir = house.dir.path().display();
    format!(
        r#"
daemon off; master_process off; pid {dir}/nginx.pid; error_log {dir}/nginx-error.log info;
events {{}}
http {{
    access_log off;
    client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3; uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;
    upstream tokenscope {{ server {https}; keepalive 8; }}
    server {{
        listen 127.0.0.1:{upstream};
        location / {{ return 200 "for $http_x_subject"; }}
    }}
    server {{
        listen 127.0.0.1:{gateway};
        location /api/ {{
            auth_request /_may;
            auth_request_set $subject $upstream_http_x_tokenscope_subject;
            proxy_set_header X-Subject $subject;
            proxy_pass http://127.0.0.1:{upstream};
        }}
        location = /_may {{
            internal;
            proxy_pass https://tokenscope/authorize;   proxy_http_version 1.1;   proxy_set_header Connection "";
            proxy_pass_request_body off;               proxy_set_header Content-Length "";
            proxy_set_header X-Tokenscope-Scope "tasks:read";   proxy_set_header X-Tokenscope-Place "1579";
            proxy_set_header Tokenscope-Authorization "Basic {credentials}";
            proxy_ssl_verify on;   proxy_ssl_trusted_certificate {ca};   proxy_ssl_name localhost;
        }}
    }}
}}
"#,
        https = house.file.https,
        ca = house.file.ca_file.display(),
        credentials = base64(format!("{name}:{secret}").as_bytes()),
    )
}

#[test]
fn nginx_lets_through_what_is_allowed_and_passes_the_refusals_on() {
    if !is_installed("nginx") {
        return skipped("nginx as a gateway: no nginx here");
    }
    let mut house = House::new();
    house.start();
    // nginx gives up the rights of root; what it reads has to be readable.
    fs::set_permissions(house.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (gateway, upstream) = (free_port(), free_port());
    let config = house.dir.path().join("nginx.conf");
    fs::write(&config, configuration(&house, gateway, upstream)).unwrap();
    let mut command = Command::new("nginx");
    if !std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|it| it.join("nginx").is_file()) {
        command = Command::new("/usr/sbin/nginx");
    }
    command.arg("-c").arg(&config).arg("-p").arg(house.dir.path()).stdin(Stdio::null()).stderr(Stdio::null());
    let mut nginx = Nginx(command.spawn().unwrap());
    let address = SocketAddr::from(([127, 0, 0, 1], gateway));
    let log = house.dir.path().join("nginx-error.log");
    let ask = |token: Option<&str>| -> Option<Answer> {
        let credentials = token.map_or(String::new(), |token| format!("authorization: Bearer {token}\r\n"));
        plain(address, format!("GET /api/tasks HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{credentials}\r\n"))
    };
    wait_for("nginx", || {
        assert_eq!(nginx.0.try_wait().unwrap(), None, "{}", fs::read_to_string(&log).unwrap_or_default());
        ask(None)
    });
    let status = |token: Option<&str>| {
        let answer = ask(token).unwrap();
        let challenge = answer.header("www-authenticate").unwrap_or_default().to_owned();
        (answer.status, challenge, answer.text())
    };
    let maria = house.token("maria-time").token.clone();
    let allowed = status(Some(&maria));
    assert_eq!((allowed.0, allowed.2.as_str()), (200, "for maria"), "{}", fs::read_to_string(&log).unwrap_or_default());
    // Writes in 1592, reads nothing in 1579.
    let denied = status(Some(&house.token("maria-personal").token));
    assert_eq!(denied.0, 403, "{denied:?}");
    let nothing = status(None);
    assert!(nothing.0 == 401 && nothing.1.starts_with("Bearer"), "{nothing:?}");
    assert!(!nothing.1.contains("error"), "RFC 6750, 3.1: no error code where no token was shown: {nothing:?}");
    house.revoke(&maria);
    let revoked = status(Some(&maria));
    assert!(revoked.0 == 401 && revoked.1.contains("error=\"invalid_token\""), "{revoked:?}");
    // Without Tokenscope nobody gets in.
    let jonas = house.token("jonas-time").token.clone();
    assert_eq!(status(Some(&jonas)).0, 200);
    house.kill();
    assert!(status(Some(&jonas)).0 >= 500);
}
