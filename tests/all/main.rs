//! Integration tests in one binary: the real host with real components.

mod first_light;
mod layers;
mod readme;
mod upgrades;
