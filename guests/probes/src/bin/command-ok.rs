//! A command, not a worker: the host must see it end as `normal`.

fn main() {
    println!("done");
}
