//! Nothing is lost and nothing counts twice, whatever the server and the network do. The server here is a fake in the same process, driven by a script.

#[cfg(test)]
mod appends;
#[cfg(test)]
mod batches;
#[cfg(test)]
mod fake;
