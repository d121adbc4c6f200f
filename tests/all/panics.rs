//! A panic of the host's own code: what it was over ends with a reason, whoever waits is told, and everything else goes
//! on. The places are those that look at a fuse (`paguro::runtime::Fuse`); the simulation comes to most of them by
//! chance, and here each that a worker's life comes to is taken by itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use paguro::base::{Clock, ExitReason, Failure, Name};
use paguro::control::server::Server;
use paguro::control::{Host, HostOptions};
use paguro::record::{Event, Recorder};
use paguro::runtime::{Fuse, Spot};
use paguro_tests::{PATIENCE, World, call, event, events_of, guest, standing, until};

/// Enough restarts for every test, and no wait before them.
const PATIENT: &str = "intensity = 1000\n[backoff]\ninitial = \"1ms\"\nmax = \"1ms\"\n";
/// Probation that only a verdict or an operator ends.
const LONG: Option<Duration> = Some(Duration::from_secs(300));

type Wanted = Box<dyn Fn(&Name, Spot) -> bool + Send>;

/// Panics where it is told to, each time it comes there until it has done so often enough.
#[derive(Default)]
struct Bang {
    wanted: Mutex<BTreeMap<String, (Wanted, u32)>>,
    seen: Mutex<Vec<(Name, Spot)>>,
}

impl Bang {
    /// `times`: how often; under `name`, by which it is asked how often is left.
    fn at(&self, name: &str, times: u32, wanted: impl Fn(&Name, Spot) -> bool + Send + 'static) {
        let mut all = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(name.to_string(), (Box::new(wanted), times));
    }

    fn left(&self, name: &str) -> u32 {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).get(name).map_or(0, |(_, left)| *left)
    }

    /// The places that a worker came to.
    fn seen(&self, name: &str) -> Vec<(String, u32)> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut places: Vec<(String, u32)> = seen
            .iter()
            .filter(|(whom, _)| whom.as_str() == name)
            .filter_map(|(_, spot)| match spot {
                Spot::Await { file, line } => Some((file.to_string(), *line)),
                _ => None,
            })
            .collect();
        places.sort();
        places.dedup();
        places
    }
}

impl Fuse for Bang {
    fn reached(&self, whom: &Name, spot: Spot) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push((whom.clone(), spot));
        let mut all = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = all.values_mut().any(|(wanted, left)| {
            let is_time = *left > 0 && wanted(whom, spot);
            *left -= u32::from(is_time);
            is_time
        });
        drop(all);
        assert!(!is_time, "this is what the test is for");
    }
}

async fn host(world: &World) -> (Arc<Host>, Arc<Bang>) {
    let bang = Arc::new(Bang::default());
    let options = HostOptions { fuse: Some(bang.clone()), ..HostOptions::new(world.path()) };
    (Host::start(options).await.expect("the host starts"), bang)
}

async fn stops_in_time(host: &Host) {
    let begun = Instant::now();
    tokio::time::timeout(PATIENCE, host.stop()).await.expect("the host stops");
    assert!(begun.elapsed() < Duration::from_secs(10), "it took {:?}", begun.elapsed());
}

fn is(whom: &'static str, wanted: Spot) -> impl Fn(&Name, Spot) -> bool {
    move |name, spot| name.as_str() == whom && spot == wanted
}

/// As the engine's own clock did while the system's was before 1970.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_what_a_guest_calls_ends_its_instance_and_its_caller_is_told() {
    let world = World::new();
    world.put("w", "sim").put("echo", "echo").write("supervisor.toml", PATIENT);
    let (host, bang) = host(&world).await;
    assert_eq!(call(&host, "w", "1 count").await.as_deref(), Ok("\"1\""));
    bang.at("guest", 1, is("w", Spot::Guest));
    let error = call(&host, "w", "2 count").await.unwrap_err();
    assert!(error.starts_with("down: failed: host fault: this is what the test is for, at "), "{error}");
    assert!(error.contains("all/panics.rs:"), "{error}");
    let exited = |event: &Event| matches!(event, Event::WorkerExited { worker, .. } if worker.as_str() == "w");
    let Event::WorkerExited { reason, .. } = event(&host, "its end", exited).await else { unreachable!() };
    let ExitReason::Failed(Failure::HostFault(fault)) = &reason else { panic!("{reason}") };
    assert!(fault.backtrace.iter().any(|frame| frame.contains("worker/door.rs")), "{fault:?}");
    assert_eq!(reason.word(), "host-fault");
    until("it runs again", async || standing(&host, "w") == "running").await;
    assert_eq!(call(&host, "w", "3 count").await.as_deref(), Ok("\"1\""));
    assert_eq!(host.worker("w").unwrap().status().incarnation.0, 1);
    host.restart_worker("w").await.unwrap();
    assert_eq!(call(&host, "echo", "hello").await.as_deref(), Ok("hello"));
    let shown = host.doctor().await;
    let shown = shown.iter().find(|found| found.what == "host").unwrap();
    assert!(shown.verdict == "warn" && shown.detail.contains("this is what the test is for"), "{shown:?}");
    stops_in_time(&host).await;
}

/// Neither the caller nor a cast can be left without a word, and what ends a worker three times is quarantined.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_over_which_the_host_panics_is_charged_as_after_a_trap() {
    let world = World::new();
    world.put("w", "sim").write("supervisor.toml", PATIENT);
    let (host, bang) = host(&world).await;
    bang.at("cast", 1, is("w", Spot::Guest));
    host.cast("w", "1 count".into()).unwrap();
    event(&host, "the dead letter", |event| matches!(event, Event::DeadLetter { sort: "cast", .. })).await;
    bang.at("calls", 3, is("w", Spot::Guest));
    for _ in 0..3 {
        until("it runs", async || standing(&host, "w") == "running").await;
        assert!(call(&host, "w", "2 count").await.unwrap_err().contains("host fault"));
    }
    until("it runs", async || standing(&host, "w") == "running").await;
    assert!(call(&host, "w", "2 count").await.unwrap_err().contains("quarantined"));
    assert_eq!(call(&host, "w", "3 count").await.as_deref(), Ok("\"1\""));
    stops_in_time(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_kept_through_a_panic() {
    let world = World::new();
    world.put("w", "sim").write("supervisor.toml", PATIENT);
    let (host, bang) = host(&world).await;
    bang.at("poll", 1, is("w", Spot::Poll));
    for n in 1..=20 {
        host.cast("w", format!("{n} count").into()).unwrap();
    }
    until("all were taken", async || host.worker("w").unwrap().waiting() == 0).await;
    assert_eq!(bang.left("poll"), 0);
    assert_eq!(call(&host, "w", "99 count").await.as_deref(), Ok("\"21\""), "by the next incarnation");
    stops_in_time(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_probation_the_old_revision_comes_back_and_the_component_is_not_blamed() {
    let world = World::new();
    world.put("counter", "counter-v1").write("supervisor.toml", PATIENT);
    let (host, bang) = host(&world).await;
    assert_eq!(call(&host, "counter", "add").await.as_deref(), Ok("1"));
    let switched = host.upgrade("counter", guest("counter-v2"), LONG).await.unwrap();
    bang.at("poll", 1, is("counter", Spot::Poll));
    let reply = call(&host, "counter", "add").await;
    assert!(reply.as_deref() == Ok("2"), "the old revision answers: {reply:?}");
    let outcome = switched.outcome.await.unwrap();
    assert!(format!("{outcome:?}").contains("host fault"), "{outcome:?}");
    assert_eq!(host.worker("counter").unwrap().status().revision.0, 1);
    assert!(host.database().rejections(&Name::parse("counter").unwrap()).unwrap().is_empty());
    host.upgrade("counter", guest("counter-v2"), Some(Duration::ZERO)).await.unwrap();
    assert_eq!(call(&host, "counter", "get").await.as_deref(), Ok("2"));
    stops_in_time(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisors_panic_stops_its_children_and_is_its_parents_to_handle() {
    let world = World::new();
    world.put("team/a", "sim").put("team/b", "echo").put("echo", "echo");
    world.write("supervisor.toml", PATIENT).write("team/supervisor.toml", PATIENT);
    let (host, bang) = host(&world).await;
    bang.at("team", 1, |whom, spot| whom.as_str() == "team" && spot == Spot::Poll);
    let asked = host.restart_worker("team/a").await;
    assert!(asked.is_err() || bang.left("team") == 0, "{asked:?}");
    let of = |name| events_of(&host, name).iter().map(|event| event.kind().to_string()).collect::<Vec<_>>();
    until("it has ended", async || of("team").contains(&"supervisor-stopped".to_string())).await;
    until("both run again", async || {
        let starts = of("team").iter().filter(|kind| *kind == "supervisor-started").count();
        starts == 2 && ["team/a", "team/b"].iter().all(|name| standing(&host, name) == "running")
    })
    .await;
    assert!(of("team/b").contains(&"worker-stopped".to_string()), "{:?}", of("team/b"));
    assert!(!of("echo").contains(&"worker-stopped".to_string()), "its neighbour is not its affair");
    assert_eq!(call(&host, "team/b", "hello").await.as_deref(), Ok("hello"));
    host.restart_worker("team/a").await.unwrap();
    stops_in_time(&host).await;
}

/// Where it is told that a child has left, before it has taken it from those that it knows.
#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_that_panics_over_a_child_that_left_does_not_wait_for_it() {
    let world = World::new();
    world.put("t/one", "echo").write("supervisor.toml", PATIENT);
    let policy = "strategy = \"simple-one-for-one\"\non-demand = true\nidle-stop = \"200ms\"\n";
    world.write("t/supervisor.toml", policy);
    let (host, bang) = host(&world).await;
    event(&host, "the template", |event| event.kind() == "template-set").await;
    assert_eq!(call(&host, "t/a", "hello").await.as_deref(), Ok("hello"));
    let source = include_str!("../../host/src/runtime/supervisor.rs");
    let begins = source.lines().position(|line| line.contains("async fn report(")).unwrap();
    let place = begins + source.lines().skip(begins).position(|line| line.contains("self.at();")).unwrap() + 1;
    let events = host.recorder().clone();
    bang.at("t", 1, move |whom, spot| {
        let idled = || events.events().after(0).iter().any(|event| matches!(event.item, Event::StoppedIdle { .. }));
        let is_there = matches!(spot, Spot::Await { file, line }
            if file.ends_with("runtime/supervisor.rs") && line as usize == place);
        whom.as_str() == "t" && is_there && idled()
    });
    until("it was hit", async || bang.left("t") == 0).await;
    until("the key is there anew", async || call(&host, "t/a", "again").await.as_deref() == Ok("again")).await;
    stops_in_time(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_root_comes_back_three_times_and_then_the_host_says_that_it_cannot_go_on() {
    let world = World::new();
    world.put("echo", "echo").put("counter", "counter-v1");
    let (host, bang) = host(&world).await;
    let root =
        |whom: &Name, spot| whom.is_root() && matches!(spot, Spot::Await { file, .. } if file.contains("supervisor"));
    let broken = host.broken();
    tokio::pin!(broken);
    for fall in 1..=4 {
        bang.at("root", 1, root);
        let _ = host.restart_worker("echo").await;
        until("it was hit", async || bang.left("root") == 0).await;
        if fall <= 3 {
            let started =
                |event: &Event| matches!(event, Event::SupervisorStarted { supervisor } if supervisor.is_root());
            until("it has started again", async || {
                let events = host.recorder().events().after(0);
                events.iter().filter(|event| started(&event.item)).count() > fall
            })
            .await;
            assert_eq!(call(&host, "echo", "hello").await.as_deref(), Ok("hello"));
        }
    }
    let why = tokio::time::timeout(PATIENCE, &mut broken).await.expect("the host says so");
    assert!(why.contains("the root supervisor fell 4 times"), "{why}");
    let shown = host.doctor().await;
    assert!(shown.iter().any(|found| found.what == "host" && found.verdict == "error"), "{shown:?}");
    stops_in_time(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_taken_after_a_panic_of_the_keeper() {
    let world = World::new();
    world.put("echo", "echo");
    let (host, bang) = host(&world).await;
    bang.at("keeper", 1, |whom, spot| {
        whom.is_root() && matches!(spot, Spot::Await { file, .. } if file.ends_with("keeper.rs"))
    });
    world.put("first", "echo");
    until("the keeper was hit", async || bang.left("keeper") == 0).await;
    event(&host, "it is told", |event| matches!(event, Event::HostFault { part, .. } if part.contains("keeper"))).await;
    world.put("second", "echo");
    for name in ["first", "second"] {
        until("a file is taken", async || standing(&host, name) == "running").await;
    }
    stops_in_time(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_over_which_the_host_panics_is_answered_so_and_hurts_no_other() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let world = World::new();
    world.put("echo", "echo");
    let (host, bang) = host(&world).await;
    let socket = world.path().join(".paguro/test.sock");
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let server = Server::open(&socket, None).await.unwrap();
    let serving = tokio::spawn(server.serve(host.clone(), stopped));
    let ask = async |request: &str| {
        let mut stream = tokio::net::UnixStream::connect(&socket).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let look = "GET /v1/workers HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let call = "POST /v1/workers/echo/call HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi";
    for request in [look, call] {
        bang.at("request", 1, |_, spot| matches!(spot, Spot::Await { file, .. } if file.ends_with("front.rs")));
        let answer = ask(request).await;
        assert!(answer.starts_with("HTTP/1.1 500") && answer.contains("\"internal\""), "{answer}");
        let answer = ask(request).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let told =
        |event: &Event| matches!(event, Event::HostFault { part, .. } if part.contains("POST /v1/workers/echo/call"));
    event(&host, "it is told", told).await;
    stop.send_replace(true);
    serving.await.unwrap();
    stops_in_time(&host).await;
}

/// What a worker's life comes to: it is put there, called, sleeps, is upgraded, rolled back, committed, restarted,
/// stopped and started. Whatever fails on the way, each request is answered.
async fn live(world: &World, host: &Host, name: &'static str) {
    let settings =
        "hibernate-after = \"40ms\"\nhealth-interval = \"30ms\"\n[snapshot]\ninterval = \"20ms\"\nmessages = 2\n";
    world.write(&format!("{name}.toml"), settings).put(name, "counter-v1");
    let waits = |what: &'static str, reached: &'static [&'static str]| async move {
        // A fault may have it skip the state that is waited for.
        for _ in 0..100 {
            if reached.contains(&standing(host, name).as_str()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let _ = what;
    };
    until("it is there", async || host.worker(name).is_ok()).await;
    waits("it runs", &["running", "hibernated"]).await;
    let add = async || drop(call(host, name, "add").await);
    for _ in 0..3 {
        add().await;
    }
    host.cast(name, "add".into()).ok();
    let state = host.state(name).await;
    waits("it sleeps", &["hibernated"]).await;
    add().await;
    if let Ok(state) = state {
        let _ = host.import(name, state).await;
    }
    for how in ["roll back", "commit", "sleeps"] {
        let other = if host.worker(name).is_ok_and(|worker| worker.status().revision.0 % 2 == 0) {
            "counter-v1"
        } else {
            "counter-v2"
        };
        if how == "sleeps" {
            waits("it sleeps", &["hibernated"]).await;
        }
        let switched = host.upgrade(name, guest(other), LONG).await;
        add().await;
        match how {
            "commit" => drop(host.commit(name).await),
            _ => drop(host.rollback(name, None).await),
        }
        if let Ok(switched) = switched {
            let _ = switched.outcome.await;
        }
    }
    let _ = host.restart_worker(name).await;
    let _ = host.stop_worker(name).await;
    let _ = host.start_worker(name).await;
    add().await;
}

/// One run without a fault says which places there are; then a worker for each is hit there once.
#[tokio::test(flavor = "multi_thread")]
async fn each_place_of_a_workers_life_may_panic() {
    let world = Arc::new(World::new());
    world.write("supervisor.toml", PATIENT);
    let (host, bang) = host(&world).await;
    live(&world, &host, "first").await;
    let places = bang.seen("first");
    for file in ["driver", "ending", "saving", "sleep", "start", "swap", "trial", "upgrade"] {
        let there = places.iter().any(|(place, _)| place.ends_with(&format!("{file}.rs")));
        assert!(there, "nothing of {file}.rs is among {places:?}");
    }
    let lives = places.iter().enumerate().map(|(n, (file, line))| {
        let name: &'static str = Box::leak(format!("w{n}").into_boxed_str());
        let (file, line) = (file.clone(), *line);
        let (bang, host, world) = (bang.clone(), host.clone(), world.clone());
        async move {
            let place = format!("{file}:{line}");
            bang.at(name, 1, move |whom, spot| {
                let here = |at: &str, n: u32| at == file && n == line;
                whom.as_str() == name && matches!(spot, Spot::Await { file, line } if here(file, line))
            });
            let lived = tokio::time::timeout(2 * PATIENCE, live(&world, &host, name)).await;
            assert!(lived.is_ok(), "{place}: a request has no answer; it is {}", standing(&host, name));
            // What was down because its start panicked is started by whoever wants it.
            let begun = Instant::now();
            let mut reply = call(&host, name, "get").await;
            while reply.is_err() && begun.elapsed() < PATIENCE {
                let _ = host.start_worker(name).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
                reply = call(&host, name, "get").await;
            }
            let worker = host.worker(name).unwrap();
            assert!(reply.is_ok(), "{place}: {reply:?}; it is {}", worker.status().standing.word());
            let word = worker.status().standing.word();
            assert!(word == "running" || word == "hibernated", "{place}: it is {word}");
            (place, bang.left(name))
        }
    });
    let lived: Vec<(String, u32)> = futures::stream::StreamExt::collect(futures::stream::StreamExt::buffer_unordered(
        futures::stream::iter(lives),
        8,
    ))
    .await;
    // A place that is come to by the clock may not be come to each time.
    let missed: Vec<&String> = lived.iter().filter(|(_, left)| *left > 0).map(|(place, _)| place).collect();
    assert!(missed.len() <= lived.len() / 10, "not hit: {missed:?}");
    stops_in_time(&host).await;
}

/// A library that the program is started with: what the system's calendar shows is 4,000,000,000 seconds early, which is
/// the year 1900. A system that starts with an empty battery may show such a time.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
const EARLY: &str = r#"
#![no_std]
use core::arch::asm;

#[panic_handler]
fn panics(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[repr(C)]
pub struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: i32, time: *mut Timespec) -> i32 {
    let mut done: isize = 228;
    unsafe {
        asm!("syscall", inout("rax") done, in("rdi") clock as isize, in("rsi") time, lateout("rcx") _, lateout("r11") _);
        if done == 0 && (clock == 0 || clock == 5) {
            (*time).seconds -= 4_000_000_000;
        }
    }
    done as i32
}
"#;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn a_host_whose_clock_is_before_1970_serves_as_any_other() {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::process::Command;

    use crate::program::Program;

    let mut program = Program::new();
    let (source, library) = (program.beside("early.rs"), program.beside("libearly.so"));
    std::fs::write(&source, EARLY).unwrap();
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let built = Command::new(rustc)
        .args(["--edition", "2024", "--crate-type", "cdylib", "-C", "panic=abort", "-O", "-o"])
        .args([&library, &source])
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));

    program.write("clock.wasm", &guest("fault-clock"));
    program.up_where("LD_PRELOAD", &library);
    assert_eq!(program.ok(&["call", "clock", "\"calendar\""]).trim(), "0");
    let slept: u64 = program.ok(&["call", "clock", "{\"sleep\": 20}"]).trim().parse().unwrap();
    assert!((20..5_000).contains(&slept), "{slept}");
    let mut stream = UnixStream::connect(program.socket()).unwrap();
    stream.write_all(b"GET /v1/host HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("date: Thu, 01 Jan 1970 00:00:00 GMT"), "{answer}");
    assert!(answer.contains("1970-01-01T00:00:00"), "{answer}");
    let events = program.ok(&["events"]);
    assert!(events.contains("1970-01-01") && !events.contains("fault of the host"), "{events}");
    program.ok(&["restart", "clock"]);
    assert_eq!(program.ok(&["call", "clock", "\"calendar\""]).trim(), "0");
    let begun = Instant::now();
    assert_eq!(program.terminate(), 0);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_sees_the_hosts_calendar_wherever_that_stands() {
    let mut world = World::new();
    world.put("clock", "fault-clock");
    let clock = Clock::with_calendar(-1_000_000_000);
    let options = HostOptions { recorder: Recorder::new(clock.clone()), ..HostOptions::new(world.path()) };
    let host = Host::start(options).await.unwrap();
    world.host = Some(host.clone());
    let calendar = async || call(&host, "clock", "\"calendar\"").await;
    assert_eq!(calendar().await.as_deref(), Ok("0"));
    clock.set_calendar(1_000_000_000_000);
    assert!(calendar().await.unwrap().starts_with("10000000"));
    // Past what a header or a text can show.
    clock.set_calendar(i64::MAX);
    assert!(calendar().await.unwrap().parse::<u64>().unwrap() > 253_402_300_800);
    clock.set_calendar(i64::MIN);
    assert_eq!(calendar().await.as_deref(), Ok("0"));
    assert!(call(&host, "clock", "{\"sleep\": 10}").await.unwrap().parse::<u64>().unwrap() >= 10);
    assert_eq!(host.worker("clock").unwrap().status().incarnation.0, 0);
    stops_in_time(&host).await;
}
