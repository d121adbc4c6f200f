//! Every bound that is not a setting, with its unit, what happens when it is reached, and why it
//! has this value. Settings with defaults are in `runtime::spec`.

use std::time::Duration;

/// Bytes of a worker's full name. Longer: refused. A name is a path in a directory and a metric
/// label; 255 is what file systems allow for one part.
pub const NAME_BYTES_MAX: usize = 255;

/// Bytes of a component file. Larger: refused before it is read. A Python worker, the largest kind
/// there is, has about 40 MB.
pub const COMPONENT_BYTES_MAX: u64 = 128 << 20;

/// Bytes of a settings file. Larger: refused.
pub const SETTINGS_BYTES_MAX: u64 = 1 << 20;

/// Events kept in memory for `paguro events` and for resuming a stream. Older ones are dropped and
/// a stream that asks for them is told how many it missed.
pub const FLIGHT_EVENTS_MAX: usize = 16_384;

/// Bytes of those events. Beyond, the oldest go: an event with a guest's backtrace has up to 33 KB, and
/// 16,384 of them would take half a gigabyte.
pub const FLIGHT_EVENTS_BYTES_MAX: usize = 16 << 20;

/// Log lines kept in memory over all workers.
pub const LOG_LINES_MAX: usize = 16_384;

/// Bytes of those lines. Beyond, the oldest go: a quarter of what the longest lines would take.
pub const LOG_LINES_BYTES_MAX: usize = 16 << 20;

/// Bytes of one log line; the rest is cut and marked.
pub const LOG_LINE_BYTES_MAX: usize = 4_096;

/// Metrics that one worker may create with `control.count` and `control.gauge`. More are ignored
/// and counted: a guest that makes up names must not fill the host's memory.
pub const GUEST_METRICS_MAX: usize = 100;

/// Items that a follower of events or lines takes from the tape at once. It holds no more however far behind it
/// is; what leaves the tape before it comes to it is missed, and the follower is told how much that was.
pub const FOLLOWER_ITEMS_MAX: usize = 64;
/// Bytes of the names of all metrics of all workers, with what each takes beside. Beyond: as with
/// [`GUEST_METRICS_MAX`]. Enough for a hundred metrics of ten thousand workers.
pub const GUEST_METRICS_BYTES_MAX: usize = 128 << 20;

/// What a metric takes besides its name.
pub const GUEST_METRIC_BYTES: usize = 64;

/// Requests that wait for the database's writer. A full queue makes the sender wait: durable
/// writes are never dropped.
pub const DATABASE_QUEUE_MAX: usize = 1_024;

/// Bytes of snapshots and other contents in these requests. Beyond, the sender waits as well; one request is always
/// taken. A thousand snapshots of 64 MiB would otherwise wait in memory for a slow disk.
pub const DATABASE_QUEUE_BYTES_MAX: usize = 256 << 20;

/// Requests that the writer commits in one transaction.
pub const DATABASE_GROUP_MAX: usize = 256;

/// Bytes of one entry of the ledger: its worker, action, component, detail, who decided, and its place in the chain. The
/// rest of a longer detail is cut and marked; the event and the revision's note have it whole. A worker whose name has
/// more than about 150 bytes has entries without detail, and as long as its name makes them.
pub const LEDGER_ENTRY_BYTES_MAX: usize = 300;

/// Decisions of one kind about one worker that are written one by one within that time, where an operator or a file
/// decides: more than people do by hand.
pub const LEDGER_AT_ONCE: u64 = 20;

/// How long decisions of one kind about one worker are counted before one entry tells of all after the first, where
/// a guest or a loop can cause them.
pub const LEDGER_GATHER: Duration = Duration::from_secs(60);

/// Kinds of decisions that are counted at one time. Beyond: the oldest is written before its minute is over.
pub const LEDGER_KINDS_MAX: usize = 256;

/// How long the writer lets what nobody waits for (that a child of a template was made, or let go of) gather, to
/// commit it together.
pub const DATABASE_LINGER: Duration = Duration::from_millis(1);

/// Inputs that wait for a supervisor. It is only ever sent answers to what it asked for and
/// operators' requests; a full queue makes the sender wait.
pub const SUPERVISOR_QUEUE_MAX: usize = 1_024;

/// How long the host waits for the tree to have started before it answers requests and looks at the
/// directory. What has not started by then goes on starting.
pub const ROOT_START_TIME: Duration = Duration::from_secs(60);

/// How long the directory's keeper waits for a child to stop or to start again. Then it goes on with
/// its work, and the child with its own.
pub const KEEPER_WAITS: Duration = Duration::from_secs(30);

/// How long the directory's keeper waits for file systems while it opens what a worker is granted, or looks at it
/// again. Longer: it is refused and tried again. A local disk takes well below a millisecond.
pub const GRANT_TIME: Duration = Duration::from_secs(5);

/// Directories that were ever given to workers for writing which are remembered, because a worker may have left links
/// there. Beyond: no granted path may lead through a symbolic link. A host has some tens.
pub const GRANTED_MAX: usize = 10_000;

/// How long the directory's keeper waits for a look at the directory. Longer: it goes on with what it knows, says so,
/// and takes up what the look finds when that ends. A look at a thousand files takes milliseconds, one that
/// hashes gigabytes some seconds.
pub const LOOK_TIME: Duration = Duration::from_secs(10);

/// Workers of one host. Beyond, no key of a template is taken up: whoever can name a template could
/// otherwise fill the host's memory with children.
pub const WORKERS_MAX: usize = 1_200_000;

/// Of these, those that children of templates leave for workers that have files. Beyond: as with [`WORKERS_MAX`].
pub const WORKERS_FOR_FILES: usize = 50_000;

/// Of these, how many may be children of one template, so that no template takes all keys. Beyond: as with
/// [`WORKERS_MAX`]. A million that sleep are what one host was measured with.
pub const KEYS_PER_TEMPLATE_MAX: usize = 1_050_000;

/// New keys of on-demand templates that one caller may have taken up in any second, on average, where `new-keys` of
/// the supervisor names no other number: a worker is one caller, all children of one template together are one, and
/// all clients are one. Beyond: `overloaded`, and an event. A key takes a kilobyte for good where its children sleep,
/// so this is a megabyte a second.
pub const NEW_KEYS_PER_SECOND: u32 = 1_000;

/// How many times as many at once: a client that comes back brings thousands of keys that were there before.
pub const NEW_KEYS_BURST: u32 = 10;

/// Callers whose new keys are told apart. Beyond, the one that has used up least is forgotten.
pub const NEW_KEYS_CALLERS_MAX: usize = 1_024;

/// How long a child of an on-demand template that exports no `state` may have nothing to do before it ends, where
/// `idle-stop` of the supervisor says nothing else: such a child cannot hibernate, and would hold its place for good.
pub const IDLE_STOP: Duration = Duration::from_secs(600);

/// How often the children of an on-demand template are looked at within that time: they end at most two such parts of
/// it later than said.
pub const IDLE_LOOKS: u32 = 10;

/// Steps in which bytes that change often are taken from the account: a page. What is below costs nothing that others
/// share.
pub const ACCOUNT_STEP_BYTES: u64 = 4_096;

/// The part of the host's account that is held back for workers that have files: children of templates and the bodies
/// of clients are refused an eighth before the others, because anybody can make more of them.
pub const ACCOUNT_FILES_PART: u64 = 8;

/// The part of each account that is held back for instances, half: whatever waits in mailboxes, who is to handle it can
/// wake, and one that crashed comes back. Less, and in a small container no interpreter would start while mailboxes
/// are full, which only it could empty.
pub const ACCOUNT_INSTANCES_PART: u64 = 2;

/// The part of each account that states of workers may take, a quarter: those that are durable are on disk anyway, and
/// what wakes them needs room too.
pub const ACCOUNT_STATES_PART: u64 = 4;

/// The part of the host's account that the children of one template may fill: half, so that no template takes what
/// all of them have.
pub const ACCOUNT_TEMPLATE_PART: u64 = 2;

/// Bytes that a message which waits is taken to cost beyond its payload: its place in the queue, that of its answer,
/// and what the allocator leaves free.
pub const MESSAGE_OVERHEAD_BYTES: u64 = 256;

/// The same of a timer, in two tables.
pub const TIMER_OVERHEAD_BYTES: u64 = 192;

/// The same of an open call, a monitor and a membership of a group, with the name that is kept beside.
pub const DESK_ENTRY_BYTES: u64 = 384;

/// The same of a configuration: the settings around it, which a child of a template shares with others as long as it
/// has none of its own.
pub const SETTINGS_BYTES: u64 = 1_024;

/// How long a start or a wake waits before it tries again whether there is memory for it in the account: a wake for
/// ever, for its callers have deadlines; a start as long as its start time. Each try in vain doubles it.
pub const MEMORY_AGAIN: Duration = Duration::from_millis(100);

/// No such wait is longer. Thousands that wait for memory must not keep the threads busy with their tries.
pub const MEMORY_AGAIN_MAX: Duration = Duration::from_secs(5);

/// Workers that are looked at, at most, to find one whose memory others could have. The next look goes on behind them.
pub const ROOM_LOOKS_MAX: usize = 64;

/// Bytes of the engine's own memory that an instance is taken to use at the least: its store and the records of a few core
/// instances, measured with small workers. A component that takes more says so when it is compiled.
pub const INSTANCE_OVERHEAD_BYTES: u64 = 20 << 10;

/// Bytes of the engine's memory for one element of a table.
pub const TABLE_ELEMENT_BYTES: u64 = 16;

/// The part of all places for live instances that is held back for workers that have files. Children of templates
/// wait in line before: a worker that crashed comes back, and a new file starts.
pub const PLACES_FILES_PART: usize = 8;

/// The part of all places that children of one template may take that export no `state`: they cannot make room.
pub const PLACES_STATELESS_PART: usize = 2;

/// New keys of a template whose newest component is watched. Beyond, others stand for them.
pub const FRESH_KEYS_WATCHED: usize = 10_000;

/// Of a template's keys so many for each that is isolated, at most: where more of them are, an event says so.
pub const MANY_ISOLATED: usize = 10;

/// Isolated keys of one template that are kept. One beyond them ends and leaves the tree instead, as a stopped key does:
/// its next message starts it anew. Each that is kept takes a few KiB, and clients make keys.
pub const ISOLATED_KEYS_MAX: usize = 1_000;

/// Children of one supervisor that start at one time. The others wait for their turn: a start has its
/// time, and too many side by side would take each other's.
pub const STARTS_AT_ONCE: usize = 256;

/// System messages (stop, upgrade, health, ...) that wait for one worker. A full queue refuses the
/// operator's request; stop and kill have places of their own.
pub const SYSTEM_QUEUE_MAX: usize = 64;

/// Timers that one worker may have set. One more ends the worker: `send-after` has no error to
/// return.
pub const TIMERS_MAX: usize = 10_000;

/// Bytes of the messages of all timers that one worker has set. Beyond: as with [`TIMERS_MAX`].
pub const TIMER_BYTES_MAX: u64 = 64 << 20;

/// Bytes of the messages that wait in one mailbox. Beyond: refused with `overloaded`, as by their
/// number. One message is always accepted, however large its limit lets it be.
pub const MAILBOX_BYTES_MAX: u64 = 64 << 20;

/// Facts (timers that fired, workers that stopped) that wait in one mailbox. Timers wait on the desk
/// until there is room; a monitor of what does not run ends the worker that asks for one more.
pub const FACTS_MAX: usize = 20_000;

/// Bytes of what one message sends to others that are kept for a rollback. Beyond: nothing more of
/// that message is kept, and probation ends with the verdict so far.
pub const SENT_BYTES_MAX: u64 = 16 << 20;

/// Bytes of a snapshot's media type. Longer: the snapshot is refused as too large.
pub const MEDIA_TYPE_BYTES_MAX: usize = 255;

/// Bytes of the text that a state in CBOR is shown as: a state may take many times its size as text.
pub const CBOR_TEXT_BYTES_MAX: usize = 16 << 20;

/// How long one component may be compiled in all: time of all cores together. Longer: it is refused, and banned until an
/// operator says so. A worker in JavaScript takes about 24 s, one in Python 20 s.
pub const COMPILE_TIME: Duration = Duration::from_secs(180);

/// How long a small component may be compiled in the quick lane. Longer: it starts anew in the slow lane, so that no number
/// of slow components holds up quick ones. A worker in Rust or C takes well below 0.1 s.
pub const QUICK_COMPILE_TIME: Duration = Duration::from_secs(3);

/// How many times as long a component may be compiled by the wall: other work may take the cores.
pub const COMPILE_WAIT_FACTOR: u32 = 5;

/// How long a component may be compiled in the slow lane when it comes there. Longer: it starts anew behind those that
/// came there meanwhile, and then has [`COMPILE_TIME`].
pub const SLOW_COMPILE_TIME: Duration = Duration::from_secs(60);

/// How long a host that stops waits for compilers that were told to end: they are looked at every 10 ms. Longer: the process
/// ends, and takes them along.
pub const COMPILERS_END_TIME: Duration = Duration::from_secs(1);

/// Bytes of memory that all compilers together may use, where nothing is said: half
/// of the machine's memory where that is less. A setting: `paguro up --compile-memory`.
pub const COMPILERS_BYTES_MAX: u64 = 2 << 30;

/// Bytes of memory that all compilers together have at least. Less, and a small component would not compile.
pub const COMPILERS_BYTES_MIN: u64 = 256 << 20;

/// Bytes that a compiler's process has besides those for its work: its stacks and its allocator's reserve. Its resident
/// memory is watched; this is for the system's own bound on its data, which is the second line.
pub const COMPILER_OWN_BYTES: u64 = 256 << 20;

/// Threads on which one component is compiled. Each takes memory of its own.
pub const COMPILER_THREADS_MAX: usize = 8;

/// Bytes of compiled code of one component. More: refused. The largest known, a Python worker, has about 60 MB.
pub const CODE_BYTES_MAX: u64 = 512 << 20;

/// Bytes of a compiled component's lists of functions, globals and types, packed. More: refused. A Python worker has
/// 0.6 MiB, one in JavaScript 0.3, one in Rust 14 KB.
pub const COMPONENT_METADATA_BYTES_MAX: u64 = 4 << 20;

/// How many times as much those lists are taken to need in the host while the component is loaded. Eight modules of 90,000
/// exports took 83 MB, some 13 times their packed lists; this leaves room for lists that unpack to more.
pub const METADATA_UNPACKS_TO: u64 = 24;

/// Bytes that a child of a template is charged with for as long as it is known: some hundred of them are its own, the rest
/// are entries in the tables that find it.
pub const KEY_BYTES: u64 = 1 << 10;

/// Bytes that a worker is charged with while it waits for an instance, for a start or a wake: its task. Reckoned: with
/// 22,000 that waited and as many asleep, a host had some 250 MB resident that nothing else accounts for.
pub const WAITING_WORKER_BYTES: u64 = 10 << 10;

/// Components that are remembered because their compilers died. Beyond, another one of them is tried
/// again.
pub const BANS_MAX: usize = 10_000;

/// Bytes from which on a component counts as large when it is loaded: these are compiled one after
/// another, so that they do not hold up small ones nor fill the memory. A worker in Rust or C has
/// well below 1 MiB, one in JavaScript 12 MB, one in Python 20 to 40 MB.
pub const LARGE_COMPONENT_BYTES: u64 = 4 << 20;

/// Small components that are loaded at once: as many as there are cores, but no fewer and no more
/// than these, for they share a quarter of the compilers' memory. The rest wait for their turn.
pub const SMALL_LOADS_MIN: usize = 2;
pub const SMALL_LOADS_MAX: usize = 4;

/// How long a host that starts waits for components that are being loaded. Workers whose turn has
/// not come by then are added to the running tree later, and an event says so.
pub const FIRST_LOADS_TIME: Duration = Duration::from_secs(10);

/// The longest probation that can be asked for: what is kept for it takes room all that time.
pub const PROBATION_MAX: Duration = Duration::from_secs(24 * 3600);

/// How long a guest may run host calls one after another before it gives way: fuel counts only
/// its own instructions.
pub const EPOCH: Duration = Duration::from_millis(5);

/// Resources (streams, pollables, descriptors) that one guest may hold in the host.
pub const RESOURCES_MAX: usize = 512;

/// Core instances, memories and tables in one component. A Python worker has about thirty.
pub const CORE_INSTANCES_MAX: usize = 1_000;
pub const MEMORIES_MAX: usize = 100;
pub const TABLES_MAX: usize = 1_000;

/// Calls that one worker may have left open with `ok(none)`. One more fails its caller with
/// `overloaded`.
pub const OPEN_CALLS_MAX: usize = 10_000;

/// The same while the account of memory is full: a worker that answers later goes on serving, whatever others keep.
pub const OPEN_CALLS_WHEN_FULL: usize = 100;

/// Monitors that one worker may hold. One more is ignored and counted.
pub const MONITORS_MAX: usize = 10_000;

/// Groups that one worker may be in. One more is ignored and counted.
pub const GROUPS_MAX: usize = 1_000;

/// Bytes of a group's name, a metric's name or a reason that a guest gives; the rest is cut.
pub const GUEST_TEXT_BYTES_MAX: usize = 1_024;

/// Bytes that one call may make the host copy out of a guest beyond its payload: guards against a
/// list whose items all point at the same megabytes.
pub const HOST_COPY_SLACK_BYTES: usize = 1 << 20;

/// Fuel between two places where a running guest gives way to others: about 50 us of simple code.
pub const FUEL_SLICE: u64 = 100_000;

/// Bytes of a guest's stack in WebAssembly code.
pub const WASM_STACK_BYTES: usize = 512 << 10;

/// Bytes of the stack on which a guest and the host functions it calls run.
pub const FIBER_STACK_BYTES: usize = 1 << 20;

/// Stacks that are kept when nobody runs on them, for who comes next: as many as start or wake at about the same
/// time.
pub const FREE_STACKS_MAX: usize = 64;

/// Bytes of each of them that stay in memory.
pub const FREE_STACK_BYTES: usize = 32 << 10;

/// Frames of a guest's backtrace that are kept.
pub const BACKTRACE_FRAMES_MAX: usize = 32;

/// Backtraces of panics that are taken within a minute, over the whole process. Beyond, a panic is told without one:
/// to walk the stack and to look its frames up takes up to some milliseconds, and what panics in a loop says the same.
pub const BACKTRACES_PER_MINUTE_MAX: u64 = 30;

/// Falls of the root supervisor within [`ROOT_FAULTS_PERIOD`] after each of which it starts anew. Beyond, the host stops
/// in order and ends with an exit code of its own: each takes down all workers for a moment, and what mends such a fault
/// is a new process, or another version.
pub const ROOT_FAULTS_MAX: usize = 3;
pub const ROOT_FAULTS_PERIOD: Duration = Duration::from_secs(600);

/// How long `terminate` may take in a worker that stops itself; one that is stopped has its
/// shutdown time.
pub const TERMINATE_TIME: Duration = Duration::from_secs(5);

/// How long a worker may take to reach a message boundary for an upgrade, on top of the deadline
/// of the message it is handling.
pub const QUIESCE_SLACK: Duration = Duration::from_secs(5);

/// Callers of one worker whose rates are told apart. Beyond: the one that has used up least is forgotten,
/// and begins with a full burst when it comes again. About 100 bytes each.
pub const RATE_CALLERS_MAX: usize = 1_024;

/// Restarts that may begin in any second over the whole tree, of workers of the normal tier. Beyond: they
/// wait for a place. A start costs well below a millisecond, so this keeps most of a core free for those
/// that run.
pub const RESTARTS_PER_SECOND_MAX: u32 = 100;

/// The longest that a restart waits for a place; then it begins whatever else does. Longer, and a tree of
/// thousands would not come back before its clients gave up.
pub const RESTART_PLACE_TIME: Duration = Duration::from_secs(10);

/// Memory maps that one live instance takes: measured with 200 workers each (`cargo xtask bench
/// residents`), 6.01 for a small Rust worker, 5.99 for a Python and 4.99 for a JavaScript one; 7 for one whose
/// data end inside of a page of its memory. One more, so that none is refused by the system.
pub const MAPS_PER_INSTANCE: u64 = 8;

/// Memory maps of `vm.max_map_count` that are not given to instances: the process' own, its threads',
/// compiled components, the second instances of rollbacks and imports, which do not wait, and the stacks
/// of guests that are in a call, two maps each.
pub const MAPS_RESERVE: u64 = 8_192;

/// Bytes of memory that a live instance is taken to use, for how many there can be. A small Rust worker
/// was measured with 79 KB; interpreters take megabytes, for which `limits.memory` and
/// `hibernate-after` are there.
pub const INSTANCE_BYTES: u64 = 128 << 10;

/// Live instances that one host has at least, whatever the machine says: fewer, and workers that wait
/// for each other could hold all places until their deadlines.
pub const LIVE_INSTANCES_MIN: usize = 64;

/// And at most, where the system names no bound.
pub const LIVE_INSTANCES_MAX: u64 = 1 << 20;

/// How long a worker that refused to save its state is not asked to hibernate again.
pub const SLEEPLESS_TIME: Duration = Duration::from_secs(60);

/// Names that a `not-found` answer offers.
pub const SUGGESTIONS_MAX: usize = 3;

/// Revisions that `history` keeps for one worker; the oldest settled ones go first.
pub const REVISIONS_MAX: usize = 1_000;

/// Children of one supervisor that are refused one by one because its policy has no room for them. Of
/// those beyond, all are refused: to try each takes a look at all its siblings.
pub const REFUSED_ONE_BY_ONE_MAX: usize = 100;

/// Rows that one page of a listing has.
pub const PAGE_ROWS_MAX: usize = 1_000;

/// Small components that are loaded at once on this machine.
pub fn small_loads() -> usize {
    let cores = std::thread::available_parallelism().map_or(SMALL_LOADS_MIN, usize::from);
    cores.clamp(SMALL_LOADS_MIN, SMALL_LOADS_MAX)
}

/// Dead letters that are kept. Beyond, the oldest go: what nobody looked at among ten thousand newer
/// ones is not missed.
pub const DEAD_LETTERS_MAX: usize = 10_000;

/// Bytes of the bodies of all dead letters together. Beyond, the oldest go.
pub const DEAD_LETTERS_BYTES_MAX: u64 = 64 << 20;

/// Bytes of one dead letter's body. The rest is cut, and the letter is not sent again.
pub const DEAD_LETTER_BODY_BYTES_MAX: usize = 1 << 20;

/// Dead letters that wait for the database. A worker whose letters find no room waits until there is:
/// then its mailbox fills and its senders are refused, and nothing is lost unseen.
pub const DEAD_LETTER_QUEUE_MAX: usize = 64;

/// How often a message of the same content may end its worker; from then on it is quarantined.
pub const POISON_KILLS: u32 = 3;

/// Contents that a worker remembers because they ended it. Beyond, the one that was seen longest ago is
/// forgotten, and would have to end the worker three times anew.
pub const POISON_CONTENTS_MAX: usize = 64;

/// Names that a `not-found` answer is looked for among: those about its place in the order of names, and the first
/// ones. A look takes well below a millisecond, however many workers there are.
pub const SUGGESTION_NAMES_MAX: usize = 256;

/// Workers that a reading over all of them looks at before it gives way to others: some 50 us of work.
pub const WORKERS_AT_A_LOOK: usize = 256;

/// Workers that are told of in full before a listing gives way: each takes two looks into the database, of 10 us.
pub const INFOS_AT_A_LOOK: usize = 32;

/// Bytes of settings that one child of a template is given, by a guest or a client. They are kept for good: more is
/// refused, as in a settings file.
pub const CONFIGURATION_BYTES_MAX: usize = SETTINGS_BYTES_MAX as usize;

/// Bytes that one handle of a guest's file is charged with: a stream reads so far ahead (wasmtime-wasi's
/// `MAX_READ_SIZE_ALLOC`).
pub const FILE_HANDLE_BYTES: u64 = 64 << 10;

/// Bytes that one listing of a directory is charged with: the entries that are read ahead.
pub const LISTING_BYTES: u64 = 8 << 10;

/// Connections over TCP take one part of so many of the process' descriptors, at the most, and those on the socket
/// another. The rest is kept back: for the database, the keeper, and what guests open.
pub const DESCRIPTORS_SHARE: u64 = 8;

/// Files, directories and sockets of guests have descriptors with numbers below one part of so many of the process'
/// limit. Those above stay the host's: for its database, its clients and its keeper.
pub const GUESTS_DESCRIPTORS_SHARE: u64 = 2;

/// Connections over TCP; `paguro up --connections` says otherwise. Beyond, one that nobody has shown the token on makes
/// room, then one that idles; where there is none, the new one is refused with 503.
pub const CONNECTIONS_MAX: usize = 1_024;

/// Connections from one address are one part of so many of all over TCP, at the most. Beyond: as above, among its own.
pub const CONNECTIONS_PER_ADDRESS_SHARE: usize = 4;

/// Connections on the socket, which are its owner's. Beyond: one that idles makes room.
pub const SOCKET_CONNECTIONS_MAX: usize = 1_024;

/// Descriptors that are held open for the socket, and closed when a connection there finds none.
pub const SPARE_DESCRIPTORS: usize = 4;

/// Bytes that a connection buffers of what it reads, and of what it writes. A header that is longer is refused with
/// 431. A name, a token and a browser's headers take 2 KB.
pub const CONNECTION_BUFFER_BYTES_MAX: usize = 64 << 10;

/// How long a connection over TCP may take until somebody has shown the token on it. Then it is closed.
pub const CLIENT_GREETING_TIME: Duration = Duration::from_secs(5);

/// How long a header may take from its first byte on. Then the connection is closed.
pub const CLIENT_HEADER_TIME: Duration = Duration::from_secs(10);

/// How long a connection is kept between an answer and the next request.
pub const CLIENT_IDLE_TIME: Duration = Duration::from_secs(60);

/// How long a body may take; each [`CLIENT_BYTES_PER_SECOND_MIN`] that came earn it a second more. Then: 408.
pub const CLIENT_BODY_TIME: Duration = Duration::from_secs(20);

/// And the longest that any may take: a component of 128 MiB at 150 KB/s.
pub const CLIENT_BODY_TIME_MAX: Duration = Duration::from_secs(900);

/// How long the writes of one answer may wait for a client that does not read; each [`CLIENT_BYTES_PER_SECOND_MIN`]
/// that it takes earn it a second more. Then the connection is closed.
pub const CLIENT_WRITE_TIME: Duration = Duration::from_secs(30);

/// Bytes per second below which a client counts as slow: a modem's.
pub const CLIENT_BYTES_PER_SECOND_MIN: u64 = 16 << 10;

/// How long a client over TCP may be silent before its system is asked whether it lives; after as long again without
/// an answer the connection ends.
pub const CLIENT_SILENT_TIME: Duration = Duration::from_secs(60);

/// How often connections are looked at. Each of the times above is longer by this at the most.
pub const CLIENT_LOOK_TIME: Duration = Duration::from_secs(1);

/// How long, and how far, the body of a request that was refused is read on and thrown away: a client that still
/// sends when its connection is closed may not see why.
pub const CLIENT_LINGER_TIME: Duration = Duration::from_secs(2);
pub const CLIENT_LINGER_BYTES_MAX: usize = 16 << 20;

/// Bytes of a body that are not counted in the host's account: as many as a connection has in its buffers anyway.
pub const BODY_BYTES_UNCOUNTED: u64 = 16 << 10;

/// Bytes of room that is made for a body before any of it comes, whatever its length is said to be.
pub const BODY_BYTES_AHEAD: u64 = 1 << 20;

/// Bodies of requests and answers take one part of so many of the host's account, at the most, or one component.
/// Beyond: refused with 429. The rest is for what workers keep.
pub const BODIES_SHARE: u64 = 4;

/// Clients that follow events or logs at one time. Beyond: refused with 429. Each holds at most
/// [`FOLLOWER_ITEMS_MAX`] items, 256 KB of the longest lines.
pub const FOLLOWERS_MAX: usize = 64;

/// States that are saved for clients at one time; who asks for another waits for its turn.
pub const STATE_EXPORTS_AT_ONCE: usize = 16;

/// Findings about files and workers that `doctor` lists, of each kind; it says how many more there are.
pub const FINDINGS_MAX: usize = 100;

const _: () = assert!(
    4 * (2 * GUESTS_DESCRIPTORS_SHARE + DESCRIPTORS_SHARE) <= 3 * DESCRIPTORS_SHARE * GUESTS_DESCRIPTORS_SHARE,
    "a quarter of the descriptors is neither for clients nor for guests"
);
const _: () = assert!(BODY_BYTES_UNCOUNTED as usize <= CONNECTION_BUFFER_BYTES_MAX);
const _: () = assert!(WASM_STACK_BYTES * 2 <= FIBER_STACK_BYTES, "host functions need the other half of the fiber");
const _: () = assert!(DATABASE_GROUP_MAX <= DATABASE_QUEUE_MAX);
const _: () = assert!(KEYS_PER_TEMPLATE_MAX + WORKERS_FOR_FILES <= WORKERS_MAX, "one template leaves room for files");
const _: () = assert!(IDLE_LOOKS > 0);
const _: () = assert!(DEAD_LETTER_BODY_BYTES_MAX as u64 <= DEAD_LETTERS_BYTES_MAX, "each letter fits alone");
const _: () = assert!(
    (DEAD_LETTER_QUEUE_MAX * DEAD_LETTER_BODY_BYTES_MAX) as u64 <= MAILBOX_BYTES_MAX,
    "what waits for the disk takes no more than a mailbox"
);
const _: () = assert!(SMALL_LOADS_MIN <= SMALL_LOADS_MAX);
const _: () = assert!(COMPILERS_BYTES_MIN <= COMPILERS_BYTES_MAX);
const _: () = assert!(LARGE_COMPONENT_BYTES <= COMPONENT_BYTES_MAX);
const _: () = assert!(FOLLOWER_ITEMS_MAX <= FLIGHT_EVENTS_MAX && FOLLOWER_ITEMS_MAX <= LOG_LINES_MAX);
