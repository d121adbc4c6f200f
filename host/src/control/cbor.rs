//! A state in CBOR as text.

use std::fmt::{Error, Result, Write};

use crate::base::bounds::CBOR_TEXT_BYTES_MAX;

/// Whether a media type is CBOR.
pub fn is_cbor(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    essence == "application/cbor" || essence.ends_with("+cbor")
}

/// In the diagnostic notation of RFC 8949, section 8. `None`: the bytes are not one item of CBOR, or the text would be
/// longer than [`CBOR_TEXT_BYTES_MAX`]. Takes the bytes one after another, however deep they nest.
pub fn diagnostic(bytes: &[u8]) -> Option<String> {
    let mut item = minicbor::Decoder::new(bytes);
    // The end of something that never began would be an item by itself.
    item.datatype().ok().filter(|kind| *kind != minicbor::data::Type::Break)?;
    item.skip().ok().filter(|()| item.position() == bytes.len())?;
    let mut text = Bounded(String::new());
    write!(text, "{}", minicbor::display(bytes)).ok()?;
    Some(text.0)
}

struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> Result {
        if self.0.len() + text.len() > CBOR_TEXT_BYTES_MAX {
            return Err(Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_that_are_cbor() {
        for is in ["application/cbor", "application/cbor; v=1", "application/senml+cbor"] {
            assert!(is_cbor(is), "{is}");
        }
        for is_not in ["application/json", "application/cborx", "cbor", ""] {
            assert!(!is_cbor(is_not), "{is_not}");
        }
    }

    #[test]
    fn items_of_every_kind_are_shown() {
        // {"count": 7, "by": [h'0102', -1, true, null, 1.5], 3: 1("x")}
        let bytes = b"\xa3\x65count\x07\x62by\x85\x42\x01\x02\x20\xf5\xf6\xf9\x3e\x00\x03\xc1\x61x";
        let text = diagnostic(bytes).unwrap();
        assert_eq!(text, r#"{"count": 7, "by": [h'01 02', -1, true, null, 1.5e0], 3: 1("x")}"#);
    }

    #[test]
    fn what_is_no_item_or_too_long_is_not_shown() {
        for broken in [&b""[..], b"\xa1\x61", b"\x01\x02", b"\xff", b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff"] {
            assert_eq!(diagnostic(broken), None, "{broken:?}");
        }
        let long = [&b"\x5a\x01\x00\x00\x00"[..], &vec![7; 1 << 24]].concat();
        assert_eq!(diagnostic(&long), None);
        // As deep as it is long.
        let deep = [vec![0x81; 1_000_000], vec![0x01]].concat();
        assert!(diagnostic(&deep).is_some_and(|text| text.starts_with("[[[") && text.ends_with("]]]")));
    }
}
