//! placeholder of the first hour
