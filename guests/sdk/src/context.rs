//! What a worker knows of itself when it starts.

use serde::de::DeserializeOwned;

/// Given to [`crate::Worker::init`] and [`crate::Worker::resume`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The full name in the tree, such as `billing/invoices`.
    pub name: String,
    /// 0 at first, one more after each restart.
    pub incarnation: u64,
    /// blake3 hash of the component, in lowercase hex.
    pub component: String,
    /// The configuration as it came: a JSON object.
    pub config_json: String,
}

impl Context {
    /// The `[config]` of the worker's settings, typed.
    ///
    /// # Errors
    /// Says what does not fit, in words for the person who wrote the settings.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T, String> {
        let json = if self.config_json.trim().is_empty() {
            "{}"
        } else {
            &self.config_json
        };
        serde_json::from_str(json).map_err(|error| format!("the config does not fit: {error}"))
    }

    /// The full name of a worker beside this one: `shop/orders` finds `shop/inventory`.
    pub fn sibling(&self, name: &str) -> String {
        match self.name.rsplit_once('/') {
            Some((supervisor, _)) => format!("{supervisor}/{name}"),
            None => name.to_owned(),
        }
    }
}
