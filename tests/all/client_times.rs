//! What clients may hold, and for how long: a server in this process, with short times and a small account.

use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use paguro::base::Name;
use paguro::control::server::{Patience, Room, Server};
use paguro::control::{Host, HostOptions};
use paguro::record::Event;
use paguro::runtime::{Fuse, Spot};
use paguro_tests::{PATIENCE, World, ask, standing, until};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

const MIB: usize = 1 << 20;

struct Served {
    world: World,
    host: Arc<Host>,
    socket: PathBuf,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl Served {
    async fn new(workers: &[(&str, &str)], toml: &str, patience: Patience) -> Served {
        Served::within(workers, toml, patience, None).await
    }

    async fn within(workers: &[(&str, &str)], toml: &str, patience: Patience, room: Option<Room>) -> Served {
        let mut world = World::new();
        for (name, guest) in workers {
            world.put(name, guest).write(&format!("{name}.toml"), toml);
        }
        let options = HostOptions { account_bytes_max: Some(512 << 20), ..HostOptions::new(world.path()) };
        let host = Host::start(options).await.unwrap();
        world.host = Some(host.clone());
        let socket = world.path().join(".paguro/test.sock");
        let server = Server::open(&socket, None).await.unwrap().with_patience(patience);
        let server = match room {
            Some(room) => server.with_room(room),
            None => server,
        };
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(server.serve(host.clone(), stopped));
        Served { world, host, socket, stop, serving }
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.socket).await.unwrap()
    }

    /// Sends a head and so many bytes of its body.
    async fn begin(&self, head: &str, bytes: usize) -> UnixStream {
        let mut stream = self.connect().await;
        // One that is refused at once may be closed by now: what was answered is there to be read.
        let _ = stream.write_all(format!("{head}\r\nhost: x\r\n\r\n").as_bytes()).await;
        let _ = stream.write_all(&vec![b'x'; bytes]).await;
        stream
    }

    /// A number of `/metrics`.
    async fn metric(&self, name: &str) -> u64 {
        let mut stream = self.begin("GET /metrics HTTP/1.1\r\nconnection: close", 0).await;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0, |value| value.trim().parse().unwrap())
    }

    async fn cut_by(&self, bound: &str) -> bool {
        self.metric(&format!("paguro_clients_refused_total{{bound=\"{bound}\"}}")).await > 0
    }

    async fn down(mut self) {
        self.stop.send_replace(true);
        self.serving.await.unwrap();
        drop(self.host);
        self.world.down().await;
    }
}

/// The status of an answer, whose rest is left.
async fn status(stream: &mut UnixStream) -> String {
    let mut line = vec![0; 12];
    let read = tokio::time::timeout(Duration::from_secs(30), stream.read_exact(&mut line)).await;
    read.expect("an answer in time").expect("an answer");
    String::from_utf8_lossy(&line[9..]).to_string()
}

fn times(short: impl FnOnce(&mut Patience)) -> Patience {
    let mut patience = Patience { look: Duration::from_millis(20), ..Patience::default() };
    short(&mut patience);
    patience
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_have_a_sum_over_all_connections() {
    let limits = "[limits]\npayload = \"64MiB\"\nmemory = \"512MiB\"\ndeadline = \"60s\"\n";
    let served = Served::new(&[("echo", "echo")], limits, Patience::default()).await;
    let call = |bytes: usize| format!("POST /v1/workers/echo/cast HTTP/1.1\r\ncontent-length: {bytes}");
    // A quarter of the account, 128 MiB.
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(served.begin(&call(63 * MIB), 62 * MIB).await);
    }
    until("they are counted", async || served.metric("paguro_bodies_bytes").await >= 124 * MIB as u64).await;
    let mut more = served.begin(&call(8 * MIB), 0).await;
    assert_eq!(status(&mut more).await, "429", "before its body comes");
    let mut rest = String::new();
    let _ = tokio::time::timeout(Duration::from_secs(5), more.read_to_string(&mut rest)).await;
    assert!(rest.contains("too-many") && rest.contains("help"), "{rest}");
    // Without a length it is counted as it comes.
    let mut chunks = served.connect().await;
    let head = "POST /v1/workers/echo/cast HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    chunks.write_all(head.as_bytes()).await.unwrap();
    let chunk = [b"100000\r\n".as_slice(), &vec![b'x'; MIB], b"\r\n"].concat();
    for _ in 0..8 {
        // It may be refused before all of it is sent.
        let _ = chunks.write_all(&chunk).await;
    }
    assert_eq!(status(&mut chunks).await, "429");
    // What is small gets through all the while.
    let mut small = served.begin("POST /v1/workers/echo/call HTTP/1.1\r\ncontent-length: 5", 5).await;
    assert_eq!(status(&mut small).await, "200");
    for stream in &mut held {
        stream.write_all(&vec![b'x'; MIB]).await.unwrap();
        // Its mailbox has room for one of them at a time.
        assert!(["202", "503"].contains(&status(stream).await.as_str()));
    }
    until("all is given back", async || served.metric("paguro_bodies_bytes").await == 0).await;
    until("there is room again", async || status(&mut served.begin(&call(8 * MIB), 8 * MIB).await).await == "202")
        .await;
    served.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_is_given_up_and_a_client_that_goes_leaves_nothing() {
    let patience = times(|patience| patience.body = Duration::from_millis(200));
    let served = Served::new(&[("echo", "echo")], "", patience).await;
    for path in ["call", "call?timeout_ms=5000", "cast"] {
        let head = format!("POST /v1/workers/echo/{path} HTTP/1.1\r\ncontent-length: 100000");
        let mut slow = served.begin(&head, 50_000).await;
        assert_eq!(status(&mut slow).await, "408", "{path}");
    }
    let gone = served.begin("POST /v1/workers/echo/call HTTP/1.1\r\ncontent-length: 1000000", 500_000).await;
    drop(gone);
    until("nothing is held", async || served.metric("paguro_bodies_bytes").await == 0).await;
    // Its own connection is there still.
    let open = "paguro_connections{listener=\"socket\"}";
    until("none is left", async || served.metric(open).await == 1).await;
    served.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_does_not_read_is_cut_and_what_it_held_is_free() {
    let patience = times(|patience| patience.write = Duration::from_millis(200));
    let served = Served::new(&[("echo", "echo")], "", patience).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(served.begin("POST /v1/workers/echo/call HTTP/1.1\r\ncontent-length: 4000000", 4_000_000).await);
    }
    until("they are cut", async || served.cut_by("client-write-time").await).await;
    until("nothing is held", async || served.metric("paguro_bodies_bytes").await == 0).await;
    let mut rest = Vec::new();
    // What the system had taken for it is all there is.
    let _ = held[0].read_to_end(&mut rest).await;
    assert!(rest.len() < 4_000_000, "{}", rest.len());
    served.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_counts_until_its_client_has_taken_it() {
    let served = Served::new(&[("echo", "echo")], "", Patience::default()).await;
    let head = format!("POST /v1/workers/echo/call HTTP/1.1\r\nconnection: close\r\ncontent-length: {}", 4 * MIB);
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut stream = served.begin(&head, 4 * MIB).await;
        assert_eq!(status(&mut stream).await, "200");
        held.push(stream);
    }
    assert_eq!(served.metric("paguro_bodies_bytes").await, 16 * MIB as u64);
    let mut rest = Vec::new();
    held[0].read_to_end(&mut rest).await.unwrap();
    assert!(rest.len() >= 4 * MIB);
    until("one is read", async || served.metric("paguro_bodies_bytes").await == 12 * MIB as u64).await;
    held.clear();
    until("nothing is held", async || served.metric("paguro_bodies_bytes").await == 0).await;
    served.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_slowly_is_not_idle() {
    let patience = times(|patience| patience.idle = Duration::from_millis(200));
    let served = Served::new(&[("echo", "echo")], "", patience).await;
    let head = format!("POST /v1/workers/echo/call HTTP/1.1\r\ncontent-length: {}", 4 * MIB);
    let mut slow = served.begin(&head, 4 * MIB).await;
    let (mut bytes, mut piece) = (0, vec![0; MIB / 16]);
    // Over a second, five times as long as it may idle.
    while bytes < 4 * MIB {
        let read = slow.read(&mut piece).await.unwrap();
        assert!(read > 0, "cut after {bytes} bytes");
        bytes += read;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Then it is.
    while slow.read(&mut piece).await.unwrap() > 0 {}
    assert!(served.cut_by("client-idle-time").await);
    served.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_and_half_headers_end_and_requests_that_take_long_do_not() {
    let short = Duration::from_millis(200);
    let patience = times(|patience| (patience.idle, patience.header) = (short, short));
    let served = Served::new(&[("echo", "echo"), ("mute", "fault-mute")], "", patience).await;
    let mut rest = Vec::new();
    let mut idle = served.begin("GET /v1/host HTTP/1.1", 0).await;
    idle.read_to_end(&mut rest).await.unwrap();
    assert!(rest.starts_with(b"HTTP/1.1 200"), "answered, then closed");
    let mut half = served.connect().await;
    half.write_all(b"GET /v1/host HTTP/1.1\r\nx: ").await.unwrap();
    rest.clear();
    half.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
    assert!(served.cut_by("client-idle-time").await && served.cut_by("client-header-time").await);
    // Five times as long as either.
    let head = "POST /v1/workers/mute/call?timeout_ms=1000 HTTP/1.1\r\ncontent-length: 1";
    let mut long = served.begin(head, 1).await;
    assert_eq!(status(&mut long).await, "504");
    let last = served.host.recorder().events().after(0).last().map_or(0, |recorded| recorded.seq);
    let mut follower = served.begin(&format!("GET /v1/events/follow?after={last} HTTP/1.1"), 0).await;
    assert_eq!(status(&mut follower).await, "200");
    tokio::time::sleep(5 * short).await;
    served.host.restart_worker("echo").await.unwrap();
    let seeing = async {
        let (mut seen, mut more) = (Vec::new(), [0; 4096]);
        while !String::from_utf8_lossy(&seen).contains("worker-started") {
            let read = follower.read(&mut more).await.unwrap();
            assert!(read > 0, "the stream goes on");
            seen.extend_from_slice(&more[..read]);
        }
    };
    tokio::time::timeout(PATIENCE, seeing).await.expect("the follower sees it");
    served.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_all_connections_are_at_work_one_more_is_told_so() {
    let room = Room { tcp: 1, tcp_per_address: 1, socket: 2 };
    let served = Served::within(&[("mute", "fault-mute")], "", Patience::default(), Some(room)).await;
    let head = "POST /v1/workers/mute/call?timeout_ms=60000 HTTP/1.1\r\ncontent-length: 1";
    let at_work = served.begin(head, 1).await;
    let handled = || served.host.worker("mute").is_ok_and(|worker| worker.counters.handled.load(Relaxed) == 1);
    until("it is called", async || handled()).await;
    // Those that idle make room for each other.
    for _ in 0..10 {
        until("the one before idles", async || {
            let mut idle = served.begin("GET /v1/host HTTP/1.1", 0).await;
            status(&mut idle).await == "200"
        })
        .await;
    }
    // Answered, it is at work: until its request is read it would make room too.
    let mut follower = served.begin("GET /v1/events/follow HTTP/1.1", 0).await;
    while status(&mut follower).await != "200" {
        follower = served.begin("GET /v1/events/follow HTTP/1.1", 0).await;
    }
    let mut refused = String::new();
    until("both are at work", async || {
        let mut more = served.connect().await;
        let mut text = String::new();
        let _ = tokio::time::timeout(Duration::from_millis(100), more.read_to_string(&mut text)).await;
        text.starts_with("HTTP/1.1 503") && text.contains("too many connections")
    })
    .await;
    let mut more = served.connect().await;
    more.read_to_string(&mut refused).await.unwrap();
    assert!(refused.contains("socket-connections"), "{refused}");
    drop(at_work);
    until("there is room again", async || {
        let mut more = served.begin("GET /v1/host HTTP/1.1", 0).await;
        let mut line = [0; 12];
        more.read_exact(&mut line).await.is_ok() && line.ends_with(b"200")
    })
    .await;
    served.down().await;
}

/// Panics once in a file of the host's source, when it is told which.
#[derive(Default)]
struct Bang(Mutex<Option<&'static str>>);

impl Fuse for Bang {
    fn reached(&self, _: &Name, spot: Spot) {
        let Spot::Await { file, .. } = spot else { return };
        let is_time = self.0.lock().unwrap().take_if(|wanted| file.ends_with(*wanted)).is_some();
        assert!(!is_time, "this is what the test is for");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn looks_go_on_after_a_panic_and_a_server_without_its_listener_ends() {
    let world = World::new();
    let bang = Arc::new(Bang::default());
    let options = HostOptions { fuse: Some(bang.clone()), ..HostOptions::new(world.path()) };
    let host = Host::start(options).await.unwrap();
    let socket = world.path().join(".paguro/test.sock");
    let tcp = ("127.0.0.1:0".parse().unwrap(), Some("0123456789abcdef".to_string()));
    let patience = times(|patience| patience.idle = Duration::from_millis(200));
    let server = Server::open(&socket, Some(tcp)).await.unwrap().with_patience(patience);
    let address = server.tcp_address().unwrap();
    let (_stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(server.serve(host.clone(), stopped));
    let told = |wanted: &str| {
        let events = host.recorder().events().after(0);
        events.iter().any(|told| matches!(&told.item, Event::HostFault { part, .. } if part == wanted))
    };
    *bang.0.lock().unwrap() = Some("server/mod.rs");
    until("looks have fallen", async || told("what looks at connections")).await;
    let mut idle = UnixStream::connect(&socket).await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, idle.read(&mut [0])).await.expect("it is cut all the same");
    assert_eq!(ended.unwrap(), 0);
    *bang.0.lock().unwrap() = Some("server/accept.rs");
    let _client = tokio::net::TcpStream::connect(address).await.unwrap();
    tokio::time::timeout(PATIENCE, serving).await.expect("it ends before it is told to").unwrap();
    assert!(told("the API over TCP") && !socket.exists());
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_is_bounded_like_a_settings_file_whoever_gives_it() {
    let mut world = World::new();
    world.put("tenants/tenant", "probe").write("tenants/supervisor.toml", "strategy = \"simple-one-for-one\"\n");
    world.put("keeper", "probe").write("keeper.toml", "[grants]\nchildren = true\n");
    let host = world.up().await;
    until("it runs", async || standing(&host, "keeper") == "running").await;
    let start = |key: &str, bytes: usize| {
        json!({"start-child":
        {"template": "tenants", "key": key, "config": {"text": "x".repeat(bytes)}}})
    };
    let refused = ask(&host, "keeper", start("1", 2 * MIB)).await.unwrap();
    assert!(refused.to_string().contains("are accepted"), "{refused}");
    assert_eq!(standing(&host, "tenants/1"), "absent");
    assert_eq!(ask(&host, "keeper", start("2", MIB / 2)).await, Ok(json!({"ok": "tenants/2"})));
    let config = format!("{{\"text\":\"{}\"}}", "x".repeat(2 * MIB));
    let refused = host.start_with("tenants/3", Some(&config)).await.unwrap_err().to_string();
    assert!(refused.contains("are accepted"), "{refused}");
    world.down().await;
}
