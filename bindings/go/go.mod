module github.com/spike-auth/spike-auth/bindings/go

go 1.24
