//! Server-sent events, as the HTML standard defines them: bytes in, events out.

/// Bytes of one event. More: the stream is not the API's, and is given up.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// One event of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SseEvent {
    pub id: Option<u64>,
    /// Empty for an ordinary message.
    pub event: String,
    pub data: String,
}

/// Takes a stream apart, however it was cut into pieces on its way.
#[derive(Debug, Default)]
pub struct SseParser {
    /// What came after the last whole line.
    rest: Vec<u8>,
    event: SseEvent,
    has_data: bool,
}

/// An event has no end.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLong;

impl SseParser {
    /// Takes bytes in; returns the events that they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<SseEvent>, TooLong> {
        self.rest.extend_from_slice(bytes);
        let mut events = Vec::new();
        let mut start = 0;
        while let Some(length) = self.rest[start..].iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&self.rest[start..start + length]).into_owned();
            events.extend(self.line(line.strip_suffix('\r').unwrap_or(&line)));
            start += length + 1;
        }
        self.rest.drain(..start);
        if self.rest.len() + self.event.data.len() > EVENT_BYTES_MAX { Err(TooLong) } else { Ok(events) }
    }

    fn line(&mut self, line: &str) -> Option<SseEvent> {
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            return std::mem::take(&mut self.has_data).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.event.id = value.parse().ok(),
            "event" => self.event.event = value.to_string(),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            // A comment (the host sends them to keep the connection open), `retry`, or a field of
            // the future.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str =
        ": keep\n\nid: 7\ndata: {\"a\":1}\n\nevent: missed\r\ndata:3\r\n\r\nretry: 5\ndata: x\ndata\ndata:  y\n\n";

    fn expected() -> Vec<SseEvent> {
        vec![
            SseEvent { id: Some(7), event: String::new(), data: "{\"a\":1}".into() },
            SseEvent { id: None, event: "missed".into(), data: "3".into() },
            SseEvent { id: None, event: String::new(), data: "x\n\n y".into() },
        ]
    }

    #[test]
    fn events_are_the_same_however_the_stream_is_cut() {
        for size in 1..STREAM.len() {
            let mut parser = SseParser::default();
            let events: Vec<_> = STREAM.as_bytes().chunks(size).flat_map(|bytes| parser.push(bytes).unwrap()).collect();
            assert_eq!(events, expected(), "in pieces of {size}");
        }
    }

    #[test]
    fn half_an_event_is_none_and_an_endless_one_is_given_up() {
        let mut parser = SseParser::default();
        assert_eq!(parser.push(b"id: 1\ndata: x\n"), Ok(vec![]));
        assert_eq!(parser.push(&vec![b'x'; EVENT_BYTES_MAX + 1]), Err(TooLong));
    }
}
