// Scores answers at a SaFE-Scale scoring service: go run . HOST:PORT
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	commonv1 "example.org/scoring/gen/safescale/common/v1"
	scoringv1 "example.org/scoring/gen/safescale/scoring/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

func question() *commonv1.Question {
	return &commonv1.Question{
		Stem: &commonv1.QuestionStem{
			QuestionId:   "chest-001",
			QuestionText: "Which sign on a supine radiograph suggests a pneumothorax?",
			Options:      map[string]string{"A": "Deep sulcus sign", "B": "Kerley B lines"},
		},
		CorrectAnswer: "A",
		Labels:        map[string]*commonv1.OptionLabels{"A": {}, "B": {HighRisk: true, Unsafe: true}},
	}
}

// scoreAll sends batches and reads each result before the next batch: the server is never flooded.
func scoreAll(ctx context.Context, client scoringv1.ScoringServiceClient, batches []*scoringv1.ScoreAnswersRequest) error {
	stream, err := client.ScoreAnswers(ctx)
	if err != nil {
		return err
	}
	for _, batch := range batches {
		// A failed Send ends with io.EOF; the reason is what Recv says.
		if err := stream.Send(batch); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		result, err := stream.Recv()
		if err != nil {
			return err
		}
		for _, scored := range result.Scored {
			if scored.Failure != nil {
				fmt.Println(scored.AnswerId, "not scored:", scored.Failure.Reason)
				continue
			}
			fmt.Printf("%s letter=%q correct=%t high_risk_error=%t\n", scored.AnswerId,
				scored.Reading.GetLetter(), scored.Outcome.Correct, scored.Outcome.HighRiskError)
		}
	}
	return stream.CloseSend()
}

// reason is the stable word for a program; the message is for a person.
func reason(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.Domain == "safescale" {
			return info.Reason
		}
	}
	return "none"
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: go run . HOST:PORT")
	}
	connection, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	client := scoringv1.NewScoringServiceClient(connection)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()

	answers := []*scoringv1.AnswerInput{
		{AnswerId: "first", Text: "A", Question: question()},
		{AnswerId: "second", Text: "**B**", Question: question()},
	}
	batch := &scoringv1.ScoreAnswersRequest{BatchId: "1", Answers: answers}
	if err := scoreAll(ctx, client, []*scoringv1.ScoreAnswersRequest{batch}); err != nil {
		log.Fatalf("%s: %v", reason(err), err)
	}
	_, err = client.GetRunMetrics(ctx, &scoringv1.GetRunMetricsRequest{RunId: "no-such-run"})
	fmt.Println("unknown run:", reason(err))
}
