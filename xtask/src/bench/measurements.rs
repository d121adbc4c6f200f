//! What is measured, beside what, and what is to be reached.

use anyhow::{Result, bail};

use super::Length;
use super::unit::{KB, MS, S, US, Unit};

/// What a figure is compared with, measured in the same run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reference {
    /// The same work, done by Erlang.
    Erlang,
    /// What the layer below takes alone: a measurement of our own program, and whose work that is.
    Floor { name: &'static str, whose: &'static str },
}

impl Reference {
    pub fn whose(self) -> &'static str {
        match self {
            Reference::Erlang => "Erlang",
            Reference::Floor { whose, .. } => whose,
        }
    }
}

/// What is to be reached: "at most" where less is better, "at least" where more is.
#[derive(Clone, Copy)]
pub enum Goal {
    /// So many times the reference.
    Times(f64),
    /// This value, on whatever machine.
    Limit(f64),
}

/// One figure, by its name in both programs.
pub struct Measurement {
    pub name: &'static str,
    pub unit: Unit,
    pub reference: Option<Reference>,
    /// `None` for what is measured for comparison alone.
    pub goal: Option<Goal>,
}

impl Measurement {
    /// All figures of the million come from one set of workers, which takes minutes to make: they are
    /// measured together, and in one round.
    pub fn is_of_the_million(&self) -> bool {
        self.name.starts_with("million-")
    }
}

/// In the order of the table. A floor follows what it is the floor of, so that little time lies between.
pub const ALL: &[Measurement] = &[
    times("call-64", Unit::Nanoseconds, Reference::Erlang, 0.7),
    times("call-4k", Unit::Nanoseconds, Reference::Erlang, 0.9),
    times("pairs-16", Unit::PerSecond, Reference::Erlang, 1.8),
    times("client-call-64", Unit::Nanoseconds, wasmtime("floor-call-64"), 1.6),
    floor("floor-call-64", Unit::Nanoseconds),
    times("cast-64", Unit::Nanoseconds, Reference::Erlang, 1.5),
    times("lookup", Unit::Nanoseconds, Reference::Erlang, 1.0),
    times("start", Unit::Nanoseconds, Reference::Erlang, 4.0),
    limit("restart", Unit::Nanoseconds, 50.0 * US).beside(Reference::Erlang),
    limit("upgrade-1k", Unit::Nanoseconds, 150.0 * US).beside(Reference::Erlang),
    limit("upgrade-1m", Unit::Nanoseconds, 5.0 * MS).beside(Reference::Erlang),
    limit("wake-memory", Unit::Nanoseconds, 60.0 * US),
    limit("wake-database", Unit::Nanoseconds, 500.0 * US),
    limit("live-bytes", Unit::Bytes, 32.0 * KB).beside(Reference::Erlang),
    limit("hibernated-bytes", Unit::Bytes, KB),
    limit("cache-to-call", Unit::Nanoseconds, MS),
    limit("tree-scale", Unit::Ratio, 10.0),
    times("api-call-1", Unit::PerSecond, axum("axum-echo-1"), 0.6),
    floor("axum-echo-1", Unit::PerSecond),
    times("api-call-32", Unit::PerSecond, axum("axum-echo-32"), 0.6),
    floor("axum-echo-32", Unit::PerSecond),
    limit("million-create", Unit::Nanoseconds, 120.0 * S),
    limit("million-resident", Unit::Bytes, 2.0 * KB * KB * KB),
    limit("million-answered", Unit::Count, 1_000_000.0),
];

/// Names for several at once.
pub const GROUPS: &[(&str, &[&str])] = &[
    ("call", &["call-64", "call-4k", "pairs-16", "client-call-64", "floor-call-64", "cast-64", "lookup"]),
    ("upgrade", &["upgrade-1k", "upgrade-1m"]),
    ("tree", &["start", "restart", "tree-scale"]),
    ("residents", &["live-bytes", "hibernated-bytes", "wake-memory", "wake-database"]),
    ("api", &["api-call-1", "axum-echo-1", "api-call-32", "axum-echo-32"]),
    ("million", &["million-create", "million-resident", "million-answered"]),
];

const fn times(name: &'static str, unit: Unit, reference: Reference, times: f64) -> Measurement {
    Measurement { name, unit, reference: Some(reference), goal: Some(Goal::Times(times)) }
}

const fn limit(name: &'static str, unit: Unit, limit: f64) -> Measurement {
    Measurement { name, unit, reference: None, goal: Some(Goal::Limit(limit)) }
}

const fn floor(name: &'static str, unit: Unit) -> Measurement {
    Measurement { name, unit, reference: None, goal: None }
}

const fn wasmtime(name: &'static str) -> Reference {
    Reference::Floor { name, whose: "wasmtime" }
}

const fn axum(name: &'static str) -> Reference {
    Reference::Floor { name, whose: "axum" }
}

impl Measurement {
    /// Shows the reference too, though the goal does not depend on it.
    const fn beside(self, reference: Reference) -> Measurement {
        Measurement { reference: Some(reference), ..self }
    }
}

/// What these names and groups mean, in the order of the table and with the floors they are compared with.
/// No name means all; the million workers take longer than a quick look may.
pub fn choose(names: &[String], length: Length) -> Result<Vec<&'static Measurement>> {
    let mut wanted = Vec::new();
    for name in names {
        match GROUPS.iter().find(|(group, _)| group == name) {
            Some((_, members)) => wanted.extend_from_slice(members),
            None => match ALL.iter().find(|measurement| measurement.name == name) {
                Some(measurement) => wanted.push(measurement.name),
                None => bail!("there is no benchmark `{name}`; there are\n  {}", known()),
            },
        }
    }
    if names.is_empty() {
        wanted.extend(ALL.iter().filter(|m| length == Length::Full || !m.is_of_the_million()).map(|m| m.name));
    }
    for measurement in ALL.iter().filter(|m| wanted.contains(&m.name)).collect::<Vec<_>>() {
        if let Some(Reference::Floor { name, .. }) = measurement.reference {
            wanted.push(name);
        }
    }
    Ok(ALL.iter().filter(|measurement| wanted.contains(&measurement.name)).collect())
}

/// Each group with its members, then the rest.
fn known() -> String {
    let grouped = |name: &str| GROUPS.iter().any(|(_, members)| members.contains(&name));
    let mut lines: Vec<String> =
        GROUPS.iter().map(|(group, members)| format!("{group}: {}", members.join(", "))).collect();
    let rest: Vec<&str> = ALL.iter().map(|measurement| measurement.name).filter(|name| !grouped(name)).collect();
    lines.push(format!("{}, soak", rest.join(", ")));
    lines.join("\n  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(asked: &[&str], length: Length) -> Vec<&'static str> {
        let asked: Vec<String> = asked.iter().map(ToString::to_string).collect();
        choose(&asked, length).expect("all are known").iter().map(|measurement| measurement.name).collect()
    }

    #[test]
    fn groups_and_floors_name_what_there_is() {
        let known = |name: &str| ALL.iter().any(|measurement| measurement.name == name);
        assert!(GROUPS.iter().flat_map(|(_, members)| *members).all(|name| known(name)));
        for measurement in ALL {
            if let Some(Reference::Floor { name, .. }) = measurement.reference {
                let floor = ALL.iter().find(|m| m.name == name).expect("a floor is measured");
                assert_eq!(floor.unit, measurement.unit, "{name}");
            }
        }
    }

    #[test]
    fn a_group_is_its_members_and_a_floor_comes_along() {
        assert_eq!(names(&["upgrade"], Length::Full), ["upgrade-1k", "upgrade-1m"]);
        assert_eq!(names(&["lookup", "client-call-64"], Length::Full), ["client-call-64", "floor-call-64", "lookup"]);
        assert_eq!(names(&["call", "call-64"], Length::Full).len(), 7);
    }

    #[test]
    fn a_quick_look_has_no_million_unless_asked_for() {
        assert_eq!(names(&[], Length::Full).len(), ALL.len());
        assert_eq!(names(&[], Length::Quick).len(), ALL.len() - 3);
        assert_eq!(names(&["million"], Length::Quick).len(), 3);
    }

    #[test]
    fn an_unknown_name_lists_the_known() {
        let error = choose(&["cal-64".to_owned()], Length::Full).err().expect("a mistake").to_string();
        for name in ALL.iter().map(|measurement| measurement.name).chain(GROUPS.iter().map(|(group, _)| *group)) {
            assert!(error.contains(name), "{error}");
        }
    }
}
