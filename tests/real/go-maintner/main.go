// Command go-maintner follows a log with Go's own maintner and says what it holds: an independent reader of our format,
// our /logs and our mutations.
//
//	go-maintner URL CACHE
//
// URL is that of the list of segments. Each line of output is a JSON object with counts, printed when the log is loaded
// and each time that it has grown.
package main

import (
	"context"
	"encoding/json"
	"log"
	"os"
	"reflect"

	"golang.org/x/build/maintner"
)

// counts is what both sides can count.
type counts struct {
	Repositories int `json:"repositories"`
	Issues       int `json:"issues"`
	Comments     int `json:"comments"`
	Projects     int `json:"projects"`
	Changes      int `json:"changes"`
	Commits      int `json:"commits"`
	// Check is what the corpus says about itself; empty when all is well.
	Check string `json:"check"`
}

func count(corpus *maintner.Corpus) counts {
	var c counts
	if err := corpus.Check(); err != nil {
		c.Check = err.Error()
	}
	corpus.GitHub().ForeachRepo(func(repo *maintner.GitHubRepo) error {
		c.Repositories++
		return repo.ForeachIssue(func(issue *maintner.GitHubIssue) error {
			if issue.NotExist {
				return nil
			}
			c.Issues++
			return issue.ForeachComment(func(*maintner.GitHubComment) error {
				c.Comments++
				return nil
			})
		})
	})
	corpus.Gerrit().ForeachProjectUnsorted(func(project *maintner.GerritProject) error {
		c.Projects++
		return project.ForeachCLUnsorted(func(*maintner.GerritCL) error {
			c.Changes++
			return nil
		})
	})
	// The commits of the whole corpus are not exported, only those of projects.
	c.Commits = reflect.ValueOf(corpus).Elem().FieldByName("gitCommit").Len()
	return c
}

func main() {
	log.SetOutput(os.Stderr)
	if len(os.Args) < 3 {
		log.Fatal("usage: go-maintner URL CACHE")
	}
	ctx := context.Background()
	out := json.NewEncoder(os.Stdout)
	corpus := new(maintner.Corpus)
	if err := corpus.Initialize(ctx, maintner.NewNetworkMutationSource(os.Args[1], os.Args[2])); err != nil {
		log.Fatalf("load: %v", err)
	}
	for {
		if err := out.Encode(count(corpus)); err != nil {
			log.Fatal(err)
		}
		if err := corpus.Update(ctx); err != nil {
			log.Fatalf("update: %v", err)
		}
	}
}
