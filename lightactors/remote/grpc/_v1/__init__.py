"""What protoc makes of protos/lightactors/v1/link.proto: `tox -e protos` writes it again."""
