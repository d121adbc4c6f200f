//! A command, not a worker: the host must see it end as `failed`, with its exit code in the reason.

fn main() {
    eprintln!("about to exit with 3");
    std::process::exit(3);
}
