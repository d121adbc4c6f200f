//! Integration tests in one binary: the real host with real components.

mod breakers;
mod cancellation;
mod cli;
mod compiling;
mod cpu;
mod dead_letters;
mod directory;
mod disk;
mod faults;
mod first_light;
mod health;
mod hibernation;
mod layers;
mod lending;
mod limits;
mod listener;
mod loading;
mod messages;
mod panics;
mod program;
mod readme;
mod supervision;
mod templates;
mod upgrades;
mod workers;
