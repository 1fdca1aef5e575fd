"""Parquet files whose columns have keys of their own: values and bytes, no I/O.

Bytes come in and go out; randomness is an argument. Reading, writing and asking keys are
`services.parquet_*`'s part.

Source: Apache Parquet, Modular Encryption (parquet-format, Encryption.md and parquet.thrift).
"""
