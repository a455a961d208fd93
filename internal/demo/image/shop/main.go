//go:build ignore

// Shop is the program of the demo image: it reads a price list in YAML, tells
// who asks with a token what things cost, and pushes changes over a WebSocket.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"strings"

	"github.com/golang-jwt/jwt/v4"
	"github.com/gorilla/websocket"
	"gopkg.in/yaml.v2"
)

func main() {
	prices := map[string]float64{"bell": 12.5, "rope": 3}
	if len(os.Args) > 1 {
		data, err := os.ReadFile(os.Args[1])
		if err == nil {
			err = yaml.Unmarshal(data, &prices)
		}
		if err != nil {
			log.Fatal(err)
		}
	}
	key := []byte(os.Getenv("SHOP_KEY"))
	http.HandleFunc("GET /prices", func(w http.ResponseWriter, r *http.Request) {
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		if _, err := jwt.Parse(token, func(*jwt.Token) (any, error) { return key, nil }); err != nil {
			http.Error(w, "no such customer", http.StatusUnauthorized)
			return
		}
		fmt.Fprintln(w, prices)
	})
	http.HandleFunc("GET /live", func(w http.ResponseWriter, r *http.Request) {
		c, err := new(websocket.Upgrader).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer c.Close()
		_ = c.WriteJSON(prices)
	})
	log.Fatal(http.ListenAndServe(":8080", nil))
}
