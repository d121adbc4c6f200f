//! Paths and queries of the API, with everything that is not plain written as `%XX`.

use std::fmt::{self, Write};

use crate::base::Name;

/// A path under `/v1`, ready for the request line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiPath {
    text: String,
    has_query: bool,
}

impl ApiPath {
    /// `/v1/` and `path`, which holds nothing that needs escaping.
    pub fn new(path: &str) -> ApiPath {
        ApiPath { text: format!("/v1/{path}"), has_query: false }
    }

    /// What is `under` one worker; the worker's name is one segment.
    pub fn worker(name: &Name, under: &str) -> ApiPath {
        let mut text = String::from("/v1/workers/");
        encode(&mut text, name.as_str());
        if !under.is_empty() {
            text.push('/');
            text.push_str(under);
        }
        ApiPath { text, has_query: false }
    }

    /// One supervisor; the root is `-`, which is no name.
    pub fn supervisor(name: Option<&Name>) -> ApiPath {
        let mut text = String::from("/v1/supervisors/");
        encode(&mut text, name.map_or("-", Name::as_str));
        ApiPath { text, has_query: false }
    }

    /// Adds `key=value` where there is a value.
    pub fn query(mut self, key: &str, value: Option<impl fmt::Display>) -> ApiPath {
        let Some(value) = value else { return self };
        self.text.push(if self.has_query { '&' } else { '?' });
        self.has_query = true;
        self.text.push_str(key);
        self.text.push('=');
        encode(&mut self.text, &value.to_string());
        self
    }

    /// Adds `key=true` where it is.
    pub fn flag(self, key: &str, set: bool) -> ApiPath {
        self.query(key, set.then_some(true))
    }
}

impl fmt::Display for ApiPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Leaves the unreserved characters of RFC 3986 as they are.
fn encode(out: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_segment_and_a_query_cannot_be_broken_out_of() {
        let name = Name::parse("billing/büro@1").unwrap();
        let path = ApiPath::worker(&name, "upgrade").flag("wait", true).flag("dry_run", false);
        let path = path.query("to", None::<u64>).query("x", Some("a&b=c d"));
        assert_eq!(path.to_string(), "/v1/workers/billing%2Fb%C3%BCro%401/upgrade?wait=true&x=a%26b%3Dc%20d");
        assert_eq!(ApiPath::worker(&Name::parse("a").unwrap(), "").to_string(), "/v1/workers/a");
    }
}
