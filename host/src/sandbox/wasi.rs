//! WASI for one instance: nothing, but what the worker's grants say.

use std::sync::Arc;
use std::time::Duration;

use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxBuilder};

use super::grants::Grants;
use super::output::Output;
use super::outside::{LogLevel, LogSink};
use crate::base::{Clock, Tick};

/// Bytes that one call of `wasi:random` may ask for: more is a mistake or an attack.
const RANDOM_BYTES_MAX: u64 = 64 << 10;

/// The view of a guest to which nothing is granted.
pub(super) fn bare(arg0: &str, log: Arc<dyn LogSink>, clock: Clock) -> WasiCtx {
    builder(&Grants::default(), arg0, log, clock).build()
}

/// Whether a guest with these grants has [`bare`] for its view.
pub(super) fn is_bare(grants: &Grants) -> bool {
    let Grants { directories, environment, arguments, connect, children: _ } = grants;
    directories.is_empty() && environment.is_empty() && arguments.is_empty() && connect.is_empty()
}

/// The guest's view of WASI, but for directories: those are [`super::preopens`]' affair.
pub(super) fn context(grants: &Grants, arg0: &str, log: Arc<dyn LogSink>, clock: Clock) -> WasiCtx {
    builder(grants, arg0, log, clock).build()
}

fn builder(grants: &Grants, arg0: &str, log: Arc<dyn LogSink>, clock: Clock) -> WasiCtxBuilder {
    let mut builder = WasiCtxBuilder::new();
    builder
        .monotonic_clock(Monotonic { begun: clock.now(), clock: clock.clone() })
        .wall_clock(Wall(clock))
        .stdout(Output::new(log.clone(), LogLevel::Info))
        .stderr(Output::new(log, LogLevel::Warn))
        .max_random_size(RANDOM_BYTES_MAX)
        .allow_ip_name_lookup(false)
        .allow_udp(false)
        .allow_tcp(!grants.connect.is_empty())
        .arg(arg0)
        .args(&grants.arguments)
        .envs(&grants.environment);
    let allowed = grants.connect.clone();
    builder.socket_addr_check(move |address, usage| {
        use wasmtime_wasi::sockets::SocketAddrUse;
        // Connecting binds an ephemeral local address first; listening is never granted.
        let allowed = match usage {
            SocketAddrUse::TcpConnect => allowed.contains(&address),
            SocketAddrUse::TcpBind => address.port() == 0,
            _ => false,
        };
        Box::pin(async move { allowed })
    });
    builder
}

/// The calendar as the host has it. The engine's own panics while the system's clock is before 1970; this one shows
/// 1970 then.
struct Wall(Clock);

impl HostWallClock for Wall {
    fn resolution(&self) -> Duration {
        RESOLUTION
    }

    fn now(&self) -> Duration {
        self.0.calendar()
    }
}

/// Time since the guest's view was made.
struct Monotonic {
    begun: Tick,
    clock: Clock,
}

impl HostMonotonicClock for Monotonic {
    fn resolution(&self) -> u64 {
        nanos(RESOLUTION)
    }

    fn now(&self) -> u64 {
        nanos(self.clock.now().since(self.begun))
    }
}

/// What the system's clocks count in.
const RESOLUTION: Duration = Duration::from_nanos(1);

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_of_a_guest_give_a_time_whatever_the_systems_say() {
        let clock = Clock::manual();
        let monotonic = Monotonic { begun: clock.now(), clock: clock.clone() };
        clock.set_calendar(i64::MIN);
        assert_eq!((Wall(clock.clone()).now(), monotonic.now()), (Duration::ZERO, 0));
        clock.set_calendar(i64::MAX);
        clock.advance(Duration::MAX);
        assert!(Wall(clock.clone()).now() > Duration::from_secs(253_402_300_800));
        assert!(monotonic.now() >= u64::MAX - 1);
        assert_eq!((Wall(clock).resolution(), monotonic.resolution()), (RESOLUTION, 1));
    }
}
