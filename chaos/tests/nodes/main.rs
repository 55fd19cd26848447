//! The real `tandem-cluster` under simulation.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]
#![allow(clippy::print_stdout, reason = "it tells its figures")]

mod machine;
mod world;

use world::World;

#[test]
fn three_nodes_form_a_cluster() {
    for count in [1, 3] {
        let begun = std::time::Instant::now();
        let mut world = World::formed(1, count);
        println!("{count} formed at {} us in {:?}", world.network.now_us(), begun.elapsed());
        let begun = std::time::Instant::now();
        world.pass(std::time::Duration::from_secs(10));
        println!("10 s took {:?}", begun.elapsed());
    }
}
