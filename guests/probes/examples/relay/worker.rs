// What both relays are, as little as a worker with state can be: no SDK, no JSON, no WASI. For benchmarks.
//
// Calls: `call TO N BYTES` calls another worker N times, `cast TO N BYTES` casts to it and then calls it
// once; `fill BYTES` makes the state so large; `count` replies how many casts came; `die ...` traps; any other
// request is replied as it is.

wit_bindgen::generate!({
    path: "../../wit",
    inline: "package paguro:relay;
        world relay {
            import paguro:worker/messaging@0.1.0;
            export paguro:worker/handler@0.1.0;
            export paguro:worker/state@0.1.0;
            export paguro:worker/batch@0.1.0;
        }",
    world: "paguro:relay/relay",
    generate_all,
});

use std::cell::RefCell;

use exports::paguro::worker::{batch, handler, state};
use paguro::worker::messaging;
use paguro::worker::types::Snapshot;

struct Relay;

thread_local! {
    static STATE: RefCell<Vec<u8>> = RefCell::new(vec![VERSION; 100]);
    static CASTS: RefCell<u64> = const { RefCell::new(0) };
}

impl handler::Guest for Relay {
    fn handle_call(_: u64, request: Vec<u8>) -> Result<Option<Vec<u8>>, String> {
        let verb = request.get(..4).unwrap_or_default();
        match verb {
            b"call" | b"cast" | b"fill" => {
                let text = String::from_utf8(request).map_err(|error| error.to_string())?;
                command(&text).map(|()| Some(Vec::new()))
            }
            b"coun" => Ok(Some(
                CASTS.with_borrow(|casts| casts.to_string()).into_bytes(),
            )),
            b"die " => core::arch::wasm32::unreachable(),
            _ => Ok(Some(request)),
        }
    }

    fn handle_cast(_: Vec<u8>) -> Result<(), String> {
        CASTS.with_borrow_mut(|casts| *casts += 1);
        Ok(())
    }

    fn handle_info(_: handler::Info) -> Result<(), String> {
        Ok(())
    }
}

fn command(text: &str) -> Result<(), String> {
    let mut words = text.split(' ');
    let verb = words.next().unwrap_or_default();
    let to = if verb == "fill" { "" } else { words.next().ok_or("to whom?")? };
    let mut number = || words.next().and_then(|word| word.parse().ok()).ok_or("a number is missing");
    if verb == "fill" {
        let bytes: usize = number()?;
        STATE.set(vec![VERSION; bytes]);
        return Ok(());
    }
    let (times, bytes): (usize, usize) = (number()?, number()?);
    let body = vec![1; bytes];
    let failed = |error| format!("{error:?}");
    for _ in 0..times {
        if verb == "call" {
            messaging::call(to, &body, None).map_err(failed)?;
        } else {
            messaging::cast(to, &body).map_err(failed)?;
        }
    }
    if verb == "cast" {
        messaging::call(to, b"count", None).map_err(failed)?;
    }
    Ok(())
}

impl batch::Guest for Relay {
    fn handle_casts(messages: Vec<Vec<u8>>) -> Vec<(u32, String)> {
        CASTS.with_borrow_mut(|casts| *casts += messages.len() as u64);
        Vec::new()
    }
}

impl state::Guest for Relay {
    fn save_state() -> Result<Snapshot, String> {
        let data = STATE.with_borrow(Vec::clone);
        Ok(Snapshot { schema: 1, media_type: "application/octet-stream".to_string(), data })
    }

    fn restore_state(from: Snapshot) -> Result<(), String> {
        STATE.set(from.data);
        Ok(())
    }

    fn upgrade_state(old: Snapshot) -> Result<Snapshot, String> {
        Ok(old)
    }
}

export!(Relay);
