//! How a body is read and written.
//!
//! Bodies are JSON. What is written is always JSON. What is read may be looser, so that a person can
//! type it:
//!
//! 1. A body that is valid JSON is that JSON; any other is read as a JSON string. `add` and `"add"`
//!    are the same request.
//! 2. A string that does not fit as it is, is tried as the name of a variant whose content is
//!    `null`. So `add` and `{"add":3}` both fit `enum Request { Add(Option<u64>) }`.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::error::Category;

/// Reads a body.
///
/// # Errors
/// Says what does not fit; the caller of the worker sees this text.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    let misfit = match serde_json::from_slice::<T>(body) {
        Ok(message) => return Ok(message),
        Err(error) => error,
    };
    // Only now, on the way to an error, is it worth finding out whether the body was a word.
    let word = match (misfit.classify(), serde_json::from_slice::<Value>(body)) {
        (_, Ok(Value::String(word))) => word,
        (Category::Data, Ok(_)) => return Err(format!("the message does not fit: {misfit}")),
        // `echo get | paguro call NAME -` ends in a line feed that is not meant.
        _ => String::from_utf8(body.to_vec())
            .map_err(|_| "the message is neither JSON nor text".to_owned())?
            .trim()
            .to_owned(),
    };
    read_word(word)
}

/// Writes a body.
///
/// # Errors
/// Only a type whose own `Serialize` fails, or a map whose keys are not strings, gets here.
pub fn write<T: Serialize + ?Sized>(message: &T) -> Result<Vec<u8>, String> {
    serde_json::to_vec(message).map_err(|error| format!("the message cannot be written: {error}"))
}

fn read_word<T: DeserializeOwned>(word: String) -> Result<T, String> {
    let variant = Value::Object([(word.clone(), Value::Null)].into_iter().collect());
    T::deserialize(Value::String(word))
        .or_else(|misfit| T::deserialize(variant).map_err(|_| misfit))
        .map_err(|error| format!("the message does not fit: {error}"))
}

#[cfg(test)]
mod tests {
    use super::read;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Request {
        Add(Option<u64>),
        Get,
    }

    #[test]
    fn a_word_is_a_variant_with_or_without_content() {
        for (body, expected) in [
            ("get", Ok(Request::Get)),
            ("\"get\"", Ok(Request::Get)),
            ("add", Ok(Request::Add(None))),
            ("add\n", Ok(Request::Add(None))),
            ("\"add\"", Ok(Request::Add(None))),
            ("{\"add\":3}", Ok(Request::Add(Some(3)))),
        ] {
            assert_eq!(read::<Request>(body.as_bytes()), expected, "{body}");
        }
        for body in ["", "take", "17", "{\"add\":-1}", "{\"add\":", "[1"] {
            assert!(read::<Request>(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn text_is_a_string_and_json_is_json() {
        assert_eq!(read::<String>(b"two words"), Ok("two words".to_owned()));
        assert_eq!(read::<f64>(b"2.5"), Ok(2.5));
        assert!(read::<String>(&[0xff, 0xfe]).is_err());
    }
}
