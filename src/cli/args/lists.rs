//! Flags of the commands that list.

use clap::Args;

use super::flags::OutputFlags;

/// List the shipped models
#[derive(Args, Debug)]
pub struct ModelsArgs {
    #[command(flatten)]
    pub output: OutputFlags,
}

/// Declares the command of a list; the command takes the name of an entry.
macro_rules! list {
    ($(#[$doc:meta])+ $name:ident) => {
        $(#[$doc])+
        #[derive(Args, Debug)]
        pub struct $name {
            /// Print one entry with its parameters and an example
            pub name: Option<String>,
            #[command(flatten)]
            pub output: OutputFlags,
        }
    };
}

list! {
    /// List the samplers, schedules and processes, or print one
    SamplersArgs
}

list! {
    /// List the schedules of noise levels, or print one
    SchedulesArgs
}

list! {
    /// List the tasks of `tweedie restore`, or print one
    TasksArgs
}

list! {
    /// List the methods of `tweedie restore`, or print one
    MethodsArgs
}

list! {
    /// List the figures of `tweedie evaluate`, or print one
    MetricsArgs
}

list! {
    /// List the families of published checkpoints, or print one
    FamiliesArgs
}
