//! Every way in which a plugin may try to hurt its host or its neighbours, each as a test: the host lives, the neighbour is
//! served, and what was wrong is said. `docs/sandbox.md` lists them; what they cost the neighbour is measured in
//! `neighbours.rs`.

#[path = "hostile/calls.rs"]
mod calls;
#[path = "hostile/files.rs"]
mod files;
#[path = "hostile/limited.rs"]
mod limited;
#[path = "hostile/limits.rs"]
mod limits;
#[path = "hostile/listed.rs"]
mod listed;
#[path = "hostile/loads.rs"]
mod loads;
#[path = "hostile/neighbourhood.rs"]
mod neighbourhood;
