//! Integration tests in one binary: the real host with real components.

mod breakers;
mod cli;
mod dead_letters;
mod directory;
mod disk;
mod faults;
mod first_light;
mod hibernation;
mod layers;
mod listener;
mod loading;
mod messages;
mod program;
mod readme;
mod upgrades;
mod workers;
