//! `[config]` as the JSON object that the guest gets.

use serde_json::Value;
use toml::de::DeValue;

use super::error::SettingsError;
use super::section::Field;

/// The table as JSON text: keys in alphabetical order, so that the same settings are the same text;
/// dates and times as strings in RFC 3339. Fails where JSON has no such number (`inf`, `nan`,
/// integers beyond 64 bits).
pub(super) fn object(config: &Field<'_>) -> Result<String, SettingsError> {
    config.table()?;
    Ok(value(config)?.to_string())
}

// Recursion is bounded: the TOML parser refuses deep nesting.
fn value(field: &Field<'_>) -> Result<Value, SettingsError> {
    Ok(match field.value.get_ref() {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Boolean(truth) => Value::from(*truth),
        DeValue::Datetime(moment) => Value::from(moment.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(Value::from)
            .map_err(|_| field.error(format!("`{}` is beyond 64 bits", field.key), "write it as a text"))?,
        DeValue::Float(number) => number
            .as_str()
            .parse::<f64>()
            .ok()
            .and_then(serde_json::Number::from_f64)
            .map(Value::Number)
            .ok_or_else(|| field.error(format!("`{}` has no form in JSON", field.key), "write it as a text"))?,
        DeValue::Array(_) => Value::Array(field.items()?.iter().map(value).collect::<Result<_, _>>()?),
        DeValue::Table(table) => {
            // Sorted here too: another crate in the build may make both maps keep insertion order.
            let mut entries: Vec<_> = table.iter().collect();
            entries.sort_by(|a, b| a.0.get_ref().cmp(b.0.get_ref()));
            let mut object = serde_json::Map::new();
            for (key, inner) in entries {
                let key: &str = key.get_ref();
                let dotted = super::error::one_line(&format!("{}.{key}", field.key));
                object.insert(key.to_string(), value(&Field { source: field.source, key: dotted, value: inner })?);
            }
            Value::Object(object)
        }
    })
}
