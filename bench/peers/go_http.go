// Go's net/http with a channel and goroutines: what one would write by hand in Go.
package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"strings"
	"sync"
)

const (
	workers   = 32
	queueSize = 10000
	kept      = 100000
)

type submission struct {
	Task    string          `json:"task"`
	Payload json.RawMessage `json:"payload"`
}

type job struct {
	id string
	submission
}

var (
	lock   sync.RWMutex
	states = map[string]string{}
	over   []string
	queue  = make(chan job, queueSize)
)

func work() {
	for job := range queue {
		setState(job.id, "running")
		setState(job.id, "succeeded")
	}
}

func setState(id, state string) {
	lock.Lock()
	defer lock.Unlock()
	states[id] = state
	if state != "succeeded" {
		return
	}
	over = append(over, id)
	if len(over) > kept {
		delete(states, over[0])
		over = over[1:]
	}
}

func submit(w http.ResponseWriter, r *http.Request) {
	var wanted submission
	if err := json.NewDecoder(r.Body).Decode(&wanted); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if wanted.Task != "noop" {
		http.Error(w, "unknown task", http.StatusUnprocessableEntity)
		return
	}
	random := make([]byte, 16)
	rand.Read(random)
	id := hex.EncodeToString(random)
	setState(id, "queued")
	// A full channel makes the client wait.
	queue <- job{id, wanted}
	header := w.Header()
	header.Set("Location", "/jobs/"+id)
	header.Set("Job-State", "queued")
	header.Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	fmt.Fprintf(w, `{"id":"%s","state":"queued"}`, id)
}

func status(w http.ResponseWriter, r *http.Request) {
	lock.RLock()
	state, known := states[strings.TrimPrefix(r.URL.Path, "/jobs/")]
	lock.RUnlock()
	if !known {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	header := w.Header()
	header.Set("Job-State", state)
	header.Set("Cache-Control", "no-store")
	if state == "succeeded" {
		w.WriteHeader(http.StatusOK)
		return
	}
	header.Set("Retry-After", "1")
	w.WriteHeader(http.StatusAccepted)
}

func main() {
	for i := 0; i < workers; i++ {
		go work()
	}
	http.HandleFunc("/jobs", submit)
	http.HandleFunc("/jobs/", status)
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
}
