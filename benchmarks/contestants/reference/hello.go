// Go's net/http/fcgi on the socket at descriptor 0.
package main

import (
	"net/http"
	"net/http/fcgi"
)

var hello = []byte("Hello, World!")

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Content-Length", "13")
		w.Write(hello)
	})
	if err := fcgi.Serve(nil, nil); err != nil {
		panic(err)
	}
}
