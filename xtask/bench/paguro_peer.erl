%% The work of Paguro's benchmark, done by Erlang/OTP with its own means: processes that are
%% gen_servers, a supervisor, sys for upgrades. `cargo xtask bench` compiles and runs it:
%%
%%   erl +P 2000000 +S 2 -noshell -pa DIRECTORY -run paguro_peer main full call-64 lookup
%%
%% The first word is `full` or `quick`, the rest are measurements. Each prints one line of JSON, the
%% same that `host/examples/bench.rs` prints. Every measurement begins with a warm-up that is thrown away,
%% and has a process of its own to run in, so that none inherits another's heap.
%%
%% It is not called `peer`: OTP 25 has a module of that name, and a VM that finds this one first does not start.
-module(paguro_peer).
-behaviour(gen_server).
-export([main/1]).
-export([init/1, handle_call/3, handle_cast/2, code_change/3]).
-export([start_child/0]).

%% ---- The worker -------------------------------------------------------------------------------

init({supervisor, Spec}) -> {ok, Spec};
init(State) -> {ok, State}.

handle_call({echo, Body}, _From, State) -> {reply, Body, State};
handle_call(get, _From, State) -> {reply, State, State}.

handle_cast(_Body, State) -> {noreply, State}.

code_change(_Old, State, _Extra) -> {ok, State}.

worker(State) ->
    {ok, Pid} = gen_server:start(?MODULE, State, []),
    Pid.

start_child() -> gen_server:start_link({local, child}, ?MODULE, 0, []).

%% ---- The measurements -------------------------------------------------------------------------
%% Each returns {What, Unit, Samples}. A sample is the mean of a batch where one operation is too short
%% for the clock, and one operation where it is not.

measure("call-64", Length) -> {"gen_server:call, 64 B", "ns", calls(64, Length)};
measure("call-4k", Length) -> {"gen_server:call, 4 KB", "ns", calls(4096, Length)};
measure("pairs-16", Length) -> pairs(16, Length);
measure("cast-64", Length) -> {"gen_server:cast and drain, 64 B", "ns", casts(Length)};
measure("lookup", Length) -> {"whereis", "ns", lookups(Length)};
measure("start", Length) -> {"gen_server:start", "ns", [Ns || {Ns, _} <- starts(Length)]};
measure("live-bytes", Length) -> {"memory of a live process", "bytes", [Bytes || {_, Bytes} <- starts(Length)]};
measure("restart", Length) -> {"kill to ready, under a supervisor", "ns", restarts(Length)};
measure("upgrade-1k", Length) -> {"sys:change_code, 1 KB of state", "ns", upgrades(binary:copy(<<1>>, 1024), Length)};
%% A list cell is two words: 65,536 of them are 1 MB.
measure("upgrade-1m", Length) -> {"sys:change_code, 1 MB of state", "ns", upgrades(lists:seq(1, 65536), Length)};
measure(Name, _) -> error({no_such_measurement, Name}).

calls(Bytes, Length) ->
    Pid = worker(0),
    Body = binary:copy(<<1>>, Bytes),
    batches(Length, 20000, fun() -> gen_server:call(Pid, {echo, Body}) end).

%% Until the last one has been handled, not only sent: the call at the end waits for that.
casts(Length) ->
    Count = 300000,
    Pid = worker(0),
    Body = binary:copy(<<1>>, 64),
    Batch = fun() ->
        Sent = ns(fun() ->
            times(Count, fun() -> gen_server:cast(Pid, Body) end),
            gen_server:call(Pid, get, infinity)
        end),
        Sent / Count
    end,
    samples(Length, Batch).

lookups(Length) ->
    true = register(looked_up, worker(0)),
    batches(Length, 100000, fun() -> whereis(looked_up) end).

%% Erlang at its best: left to itself, and with each pair on one scheduler, of which the better counts. The
%% VM moves processes between schedulers, and on some machines two halves of a pair that are apart halve
%% the rate; a reference that depends on such luck would flatter us.
pairs(Pairs, Length) ->
    Schedulers = erlang:system_info(schedulers_online),
    Free = rates(Pairs, Length, fun(_) -> [] end),
    Bound = rates(Pairs, Length, fun(Pair) -> [{scheduler, 1 + Pair rem Schedulers}] end),
    case median(Bound) > median(Free) of
        true -> {"16 pairs calling at once, 64 B, each pair on one scheduler", "per-second", Bound};
        false -> {"16 pairs calling at once, 64 B", "per-second", Free}
    end.

%% Each caller starts its own server; the rate is that of all of them, from the first to the last.
rates(Pairs, Length, Placed) ->
    {Batches, Calls} = case Length of full -> {4, 50000}; quick -> {3, 10000} end,
    Body = binary:copy(<<1>>, 64),
    Caller = fun(Place) ->
        {ok, Pid} = gen_server:start(?MODULE, 0, [{spawn_opt, Place}]),
        times(Calls, fun() -> gen_server:call(Pid, {echo, Body}) end)
    end,
    All = fun() ->
        Places = [Placed(Pair) || Pair <- lists:seq(1, Pairs)],
        Callers = [spawn_opt(fun() -> Caller(Place) end, [monitor | Place]) || Place <- Places],
        [receive {'DOWN', Ref, process, Pid, normal} -> ok end || {Pid, Ref} <- Callers]
    end,
    [_ | Rates] = [Pairs * Calls * 1.0e9 / ns(All) || _ <- lists:seq(0, Batches)],
    Rates.

%% All stay alive, so that what they take is seen: this is the VM's own account of its memory, without what
%% its allocators hold in reserve.
starts(Length) ->
    Count = 10000,
    Slices = case Length of full -> 10; quick -> 3 end,
    Slice = fun() ->
        Before = erlang:memory(total),
        Ns = ns(fun() -> keep([worker(0) || _ <- lists:seq(1, Count)]) end),
        {Ns / Count, (erlang:memory(total) - Before) / Count}
    end,
    [_ | Samples] = [Slice() || _ <- lists:seq(0, Slices)],
    Samples.

keep(Pids) -> put(kept, [Pids | case get(kept) of undefined -> []; Kept -> Kept end]).

%% From the kill until the name belongs to another process. No limit on restarts, and no report of each.
restarts(Length) ->
    logger:set_primary_config(level, none),
    Child = #{id => child, start => {?MODULE, start_child, []}},
    Spec = {#{strategy => one_for_one, intensity => 1000000, period => 1}, [Child]},
    {ok, _} = supervisor:start_link(?MODULE, {supervisor, Spec}),
    each(Length, fun() ->
        Old = whereis(child),
        exit(Old, kill),
        wait_for_another(Old)
    end).

wait_for_another(Old) ->
    case whereis(child) of
        undefined -> wait_for_another(Old);
        Old -> wait_for_another(Old);
        _ -> ok
    end.

%% The pause that its callers would see. The state is handed over as it is: the VM has nothing to copy.
upgrades(State, Length) ->
    Pid = worker(State),
    each(Length, fun() ->
        ok = sys:suspend(Pid),
        ok = sys:change_code(Pid, ?MODULE, undefined, []),
        ok = sys:resume(Pid)
    end).

%% ---- Clock and counts -------------------------------------------------------------------------

ns(Work) ->
    Begun = erlang:monotonic_time(nanosecond),
    Work(),
    erlang:monotonic_time(nanosecond) - Begun.

times(0, _) -> ok;
times(Count, Work) -> Work(), times(Count - 1, Work).

%% Means of batches of so many operations.
batches(Length, Count, Work) -> samples(Length, fun() -> ns(fun() -> times(Count, Work) end) / Count end).

%% What these batches say; the first is the warm-up.
samples(Length, Batch) ->
    Batches = case Length of full -> 15; quick -> 5 end,
    [_ | Samples] = [Batch() || _ <- lists:seq(0, Batches)],
    Samples.

%% One operation for each sample; the first hundred are the warm-up.
each(Length, Work) ->
    Count = case Length of full -> 1000; quick -> 200 end,
    lists:nthtail(100, [ns(Work) || _ <- lists:seq(1, 100 + Count)]).

median(Samples) -> lists:nth((length(Samples) + 1) div 2, lists:sort(Samples)).

%% ---- The edge ---------------------------------------------------------------------------------

main([Length | Names]) ->
    [print(Name, list_to_existing_atom(Length)) || Name <- Names],
    halt(0).

print(Name, Length) ->
    {Pid, Ref} = spawn_monitor(fun() -> exit({measured, measure(Name, Length)}) end),
    receive
        {'DOWN', Ref, process, Pid, {measured, {What, Unit, Samples}}} ->
            Numbers = lists:join(",", [io_lib:format("~.1f", [float(Sample)]) || Sample <- Samples]),
            Format = "{\"name\":\"~s\",\"what\":\"~s\",\"unit\":\"~s\",\"samples\":[~s]}~n",
            io:format(Format, [Name, What, Unit, Numbers]);
        {'DOWN', Ref, process, Pid, Reason} ->
            io:format(standard_error, "~s: ~p~n", [Name, Reason]),
            halt(1)
    end.
