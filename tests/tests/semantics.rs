//! What operators, tasks and the builder promise, one claim a test, run on the test driver.

mod semantics {
    mod bad_input;
    mod caching;
    mod joins;
    mod mistakes;
    mod punctuation;
    mod sessions;
    mod suppress;
    mod tables;
    mod timers;
    mod versioned;
    mod windows;
}
