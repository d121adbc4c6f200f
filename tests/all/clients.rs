//! Clients that mean no good, against the real program: half headers, bodies without end, streams that nobody reads.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use paguro_tests::{PATIENCE, guest};

use crate::program::{Program, paguro};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// How long an answer may take that needs nothing of the client any more.
const AT_ONCE: Duration = Duration::from_secs(10);

/// A host that listens on TCP too.
fn listening(limit: Option<&str>, workers: &[(&str, &str)]) -> (Program, SocketAddr) {
    // Bound and let go of: nobody else takes it in between but by a rare chance.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut program = Program::new();
    for (name, guest_name) in workers {
        program.write(&format!("{name}.wasm"), &guest(guest_name));
    }
    std::fs::write(program.beside("token"), TOKEN).unwrap();
    let token = program.beside("token").display().to_string();
    program.up_with(limit, &["--listen", &address.to_string(), "--token-file", &token]);
    (program, address)
}

fn socket(program: &Program) -> UnixStream {
    let stream = UnixStream::connect(program.path().join(".paguro/paguro.sock")).unwrap();
    stream.set_read_timeout(Some(AT_ONCE)).unwrap();
    stream
}

fn tcp(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(AT_ONCE)).unwrap();
    stream
}

/// The head of an answer, or what came instead of one.
fn head(stream: &mut impl Read) -> String {
    let mut read = Vec::new();
    let mut byte = [0];
    while !read.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(0) => return format!("closed after {:?}", String::from_utf8_lossy(&read)),
            Ok(_) => read.push(byte[0]),
            Err(error) => return format!("{error} after {:?}", String::from_utf8_lossy(&read)),
        }
    }
    String::from_utf8_lossy(&read).to_string()
}

/// The status of an answer.
fn status(stream: &mut impl Read) -> String {
    let head = head(stream);
    let version = ["HTTP/1.1 ", "HTTP/1.0 "].iter().find_map(|version| head.strip_prefix(version));
    version.and_then(|rest| rest.get(..3)).map_or(head.clone(), str::to_string)
}

/// Sends a head, with its end.
fn send(stream: &mut impl Write, head: &str) {
    stream.write_all(format!("{head}\r\n\r\n").as_bytes()).unwrap();
}

/// Whether a command succeeds in time.
fn answers(program: &Program, args: &[&str]) -> bool {
    let mut command = paguro(args, &program.path());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    loop {
        if let Some(ended) = child.try_wait().unwrap() {
            return ended.success();
        }
        if begun.elapsed() > AT_ONCE {
            child.kill().unwrap();
            child.wait().unwrap();
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Bytes of the host's memory.
fn resident(program: &Program) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
}

fn descriptors(program: &Program) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", program.pid())).unwrap().count()
}

#[test]
fn half_open_connections_take_neither_the_socket_nor_the_directory() {
    let (program, address) = listening(Some("-n 256"), &[("echo", "echo")]);
    let mut held: Vec<TcpStream> = (0..400).map(|_| tcp(address)).collect();
    for stream in &mut held {
        // One that was turned away already may be closed.
        let _ = stream.write_all(b"GET /v1/host HTTP/1.1\r\nhost: x\r\nx-more: ");
    }
    assert!(answers(&program, &["ps"]), "the socket is its owner's");
    assert!(answers(&program, &["call", "echo", "x"]));
    assert!(descriptors(&program) < 200, "{} of 256 are taken", descriptors(&program));
    program.write("late.wasm", &guest("echo"));
    program.until("a new file is taken", || answers(&program, &["call", "late", "x"]));
    // Who has the token gets in, for nobody who has shown none holds a place against it.
    let mut known = tcp(address);
    send(&mut known, &format!("GET /v1/host HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}"));
    assert_eq!(status(&mut known), "200");
    // And none is kept.
    let begun = Instant::now();
    for stream in &mut held {
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest);
        let is_open = ended.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
        assert!(!is_open && begun.elapsed() < PATIENCE, "a connection without a header stays open");
    }
    let events = program.json_lines(&["events"]);
    assert!(events.iter().any(|event| event["kind"] == "client-refused"), "it is said");
}

#[test]
fn the_soft_limit_of_descriptors_is_raised_to_the_hard_one() {
    let (program, _) = listening(Some("-Sn 64"), &[]);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", program.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert!(words[3] == words[4] && words[3] != "64", "{line}");
}

#[test]
fn a_connection_without_the_token_is_answered_at_its_header_and_closed() {
    let (_program, address) = listening(None, &[("echo", "echo")]);
    for token in ["", "authorization: Bearer 0123456789abcdef\r\n"] {
        let mut stream = tcp(address);
        send(&mut stream, &format!("POST /v1/check HTTP/1.1\r\nhost: x\r\n{token}content-length: 100000000"));
        let head = head(&mut stream);
        assert!(head.starts_with("HTTP/1.1 401") && head.to_lowercase().contains("connection: close"), "{head}");
    }
}

#[test]
fn a_body_for_nobody_or_too_large_is_answered_before_it_comes() {
    let program = Program::with(&[("echo", "echo")]);
    let large: u64 = 100 << 20;
    let cases = [
        ("POST", "/v1/workers/nobody/call", 100, "404"),
        ("POST", "/v1/workers/nobody/call", large, "404"),
        ("POST", "/v1/workers/nobody/call?timeout_ms=1", large, "404"),
        ("POST", "/v1/workers/nobody/cast", large, "404"),
        ("POST", "/v1/workers/nobody/upgrade", large, "404"),
        ("POST", "/v1/workers/nobody/start", large, "404"),
        ("PUT", "/v1/workers/nobody/state", large, "404"),
        ("POST", "/v1/check?against=nobody", large, "404"),
        ("POST", "/v1/workers/echo/call", large, "413"),
        ("POST", "/v1/workers/echo/call", 100_000_000_000_000, "413"),
        ("POST", "/v1/workers/echo/cast", 100_000_000_000_000, "413"),
        ("PUT", "/v1/workers/echo/state", 100_000_000_000_000, "413"),
        ("POST", "/v1/workers/echo/upgrade", 100_000_000_000_000, "413"),
        ("POST", "/v1/workers/echo/start", 2 << 20, "413"),
        ("POST", "/v1/check", 100_000_000_000_000, "413"),
    ];
    for (method, path, length, wanted) in cases {
        for expect in ["", "\r\nexpect: 100-continue"] {
            let mut stream = socket(&program);
            send(&mut stream, &format!("{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}{expect}"));
            assert_eq!(status(&mut stream), wanted, "{method} {path}, {length} bytes{expect}");
        }
    }
    // Chunks have no length that could be looked at: they are counted as they come.
    let mut stream = socket(&program);
    send(&mut stream, "POST /v1/workers/echo/call HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked");
    let chunk = [b"100000\r\n".as_slice(), &vec![b'x'; 0x100000], b"\r\n"].concat();
    let writing = stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        let mut writing = writing;
        (0..100).take_while(|_| writing.write_all(&chunk).is_ok()).count()
    });
    assert_eq!(status(&mut stream), "413");
    drop(stream);
    assert!(sending.join().unwrap() < 100, "the rest is not read");
}

#[test]
fn bodies_that_nobody_wants_take_no_memory() {
    let program = Program::with(&[("echo", "echo")]);
    let before = resident(&program);
    let sending: Vec<_> = (0..16)
        .map(|_| {
            let mut stream = socket(&program);
            std::thread::spawn(move || {
                send(&mut stream, "POST /v1/workers/nobody/call HTTP/1.1\r\nhost: x\r\ncontent-length: 104857600");
                let piece = vec![b'x'; 1 << 20];
                (0..100).take_while(|_| stream.write_all(&piece).is_ok()).count();
                status(&mut stream)
            })
        })
        .collect();
    let mut most = 0;
    while sending.iter().any(|one| !one.is_finished()) {
        most = most.max(resident(&program));
        std::thread::sleep(Duration::from_millis(5));
    }
    for one in sending {
        let status = one.join().unwrap();
        // It may find the connection closed on it while it sends on; it never waits.
        assert!(status == "404" || !status.contains("timed out"), "{status}");
    }
    assert!(most < before + (64 << 20), "{} MiB more", (most - before) >> 20);
}

#[test]
fn the_cli_says_what_is_wrong_with_a_large_body_on_both_ways() {
    let (program, address) = listening(None, &[("echo", "echo")]);
    let file = program.beside("large");
    std::fs::write(&file, vec![b'x'; 100 << 20]).unwrap();
    let body = format!("@{}", file.display());
    program.refused(&["call", "nobody", &body], 1, &["no worker"]);
    program.refused(&["call", "echo", &body], 1, &["too large", "payload"]);
    let url = format!("http://{address}");
    let over_tcp = |token: &str, name: &str| {
        let mut command = paguro(&["call", name, &body, "--host", &url], &program.path());
        command.env("PAGURO_TOKEN", token);
        crate::program::told(&mut command)
    };
    for (token, name, words) in [
        (TOKEN, "nobody", "no worker"),
        (TOKEN, "echo", "too large"),
        ("another-token-another-token", "echo", "token is missing or wrong"),
    ] {
        let told = over_tcp(token, name);
        assert!(told.code == 1 && told.err.contains(words), "{told:?}");
    }
}

#[test]
fn followers_are_bounded_and_those_that_never_read_hold_up_nobody() {
    let program = Program::with(&[("echo", "echo"), ("log", "fault-log")]);
    let follow = |path: &str| {
        let mut stream = socket(&program);
        send(&mut stream, &format!("GET {path} HTTP/1.1\r\nhost: x"));
        let status = status(&mut stream);
        (stream, status)
    };
    let mut held = Vec::new();
    for n in 0..200 {
        let (stream, status) = follow(if n % 2 == 0 { "/v1/logs/follow" } else { "/v1/events/follow" });
        if status != "200" {
            assert_eq!((status.as_str(), n), ("429", 64));
            break;
        }
        held.push(stream);
    }
    assert_eq!(held.len(), 64, "a bound, and a clear answer beyond");
    program.ok(&["call", "log", "{\"log\":50}"]);
    assert!(answers(&program, &["call", "echo", "x"]));
    // One that goes makes room.
    held.pop();
    program.until("there is room again", || follow("/v1/logs/follow").1 == "200");
}

#[test]
fn odd_requests_are_answered_or_closed_and_the_host_lives() {
    let program = Program::with(&[("echo", "echo")]);
    let long = format!("GET /v1/host HTTP/1.1\r\nhost: x\r\nx: {}", "y".repeat(200_000));
    let many = format!("GET /v1/host HTTP/1.1\r\nhost: x{}", "\r\nx: y".repeat(1_000));
    let query = format!("GET /v1/workers?after={} HTTP/1.1\r\nhost: x", "a".repeat(60_000));
    for (head, wanted) in [
        (long.as_str(), "431"),
        (&many, "431"),
        (&query, "400"),
        ("GET /v1/host HTTP/1.0", "200"),
        ("HEAD /v1/host HTTP/1.1\r\nhost: x", "200"),
        ("HEAD /v1/events/follow HTTP/1.1\r\nhost: x", "200"),
        ("GET /v1/host HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket", "200"),
        ("OPTIONS * HTTP/1.1\r\nhost: x", "404"),
        ("GET /v1/workers?limit=18446744073709551615 HTTP/1.1\r\nhost: x", "200"),
        ("GET /v1/events?limit=18446744073709551615&after=18446744073709551615 HTTP/1.1\r\nhost: x", "200"),
        ("GET /v1/workers/%2e%2e%2fecho HTTP/1.1\r\nhost: x", "404"),
        ("GET /v1/workers/%ff%fe HTTP/1.1\r\nhost: x", "400"),
        ("GET /v1/workers/%00 HTTP/1.1\r\nhost: x", "404"),
        ("POST /v1/workers/echo/call HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2", "400"),
        ("POST /v1/workers/echo/call HTTP/1.1\r\nhost: x\r\ncontent-length: -1", "400"),
        ("NONSENSE", "400"),
    ] {
        let mut stream = socket(&program);
        // A head that is refused half way may find the connection closed on it.
        let _ = stream.write_all(format!("{head}\r\n\r\n").as_bytes());
        assert_eq!(status(&mut stream), wanted, "{}", &head[..head.len().min(80)]);
    }
    // Requests one behind another are answered one after another.
    let mut stream = socket(&program);
    let call = "POST /v1/workers/echo/call HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\nx";
    stream.write_all(call.repeat(1_000).as_bytes()).unwrap();
    for _ in 0..1_000 {
        assert_eq!(status(&mut stream), "200");
        stream.read_exact(&mut [0]).unwrap();
    }
    // Clients that leave half way leave no task and no descriptor behind.
    let before = descriptors(&program);
    for n in 0..200 {
        let mut stream = socket(&program);
        let head = [
            "POST /v1/workers/echo/call HTTP/1.1\r\nhost: x\r\ncontent-length: 100000",
            "GET /v1/logs/follow HTTP/1.1",
        ];
        let _ = stream.write_all(head[n % 2].as_bytes());
        let _ = stream.write_all(if n % 3 == 0 { b"\r\n" } else { b"\r\n\r\n" });
    }
    program.until("all are gone", || descriptors(&program) <= before);
    assert!(answers(&program, &["call", "echo", "x"]));
}

#[test]
fn every_error_has_the_form_that_the_api_promises() {
    let program = Program::with(&[("echo", "echo")]);
    program.until("it runs", || program.run(&["call", "echo", "x"]).code == 0);
    for (request, expected) in [
        ("GET /v1/ledger?after=abc", "400"),
        ("GET /v1/ledger?limt=1", "400"),
        ("GET /v1/workers/echo/call", "405"),
        ("POST /v1/workers/%ff/cast", "400"),
        ("POST /v1/workers/echo/upgrade?dryrun=true", "400"),
        ("POST /v1/workers/echo/rollback?to=many", "400"),
        ("GET /v1/nothing", "404"),
        ("GET /v1/workers/nobody", "404"),
        ("PATCH /v1/doctor", "405"),
    ] {
        let mut stream = socket(&program);
        write!(stream, "{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {expected} ")), "{request}: {head}");
        let error: serde_json::Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{request}: {body}"));
        assert!(error["code"].is_string() && error["message"].is_string(), "{request}: {body}");
    }
    assert_eq!(program.json(&["history", "echo"]).as_array().unwrap().len(), 1, "nothing was upgraded");
}
